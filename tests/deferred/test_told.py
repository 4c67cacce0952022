"""Values that were told before the full tensor was made are those of the full tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling

from .common import SIZE, agrees, assert_as_plain, labels, scores, up

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda x: x,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
}
WINNERS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: x.max(1, keepdim=True)[0],
    "named": lambda x: torch.max(x, dim=1, keepdim=True).values,
    "topk": lambda x: x.topk(1, 1)[0],
    "amax": lambda x: x.amax(1, keepdim=True),
    "amax of a list": lambda x: torch.amax(x, (-3,)).unsqueeze(1),
}


def label(x: Tensor) -> Tensor:
    return labels().clamp(min=0).unsqueeze(1)


def ties(coarse: Tensor) -> Tensor:
    """Scores of which two classes have the same everywhere, and all somewhere. In quarters, which
    torch resizes exactly; of other scores it rounds the means of equal ones differently."""
    with torch.no_grad():
        coarse.mul_(4).round_().div_(4)
        coarse[:, 3] = coarse[:, 1]
        coarse[:, :, :3, :3] = 0.25
    return coarse


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("winner", WINNERS)
@pytest.mark.parametrize("kind", KINDS)
def test_winners(
    kind: str, winner: str, dtype: torch.dtype, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ``x == x.max(1, keepdim=True)[0]`` is one-hot."""

    def program(coarse: Tensor) -> Any:
        x = KINDS[kind](up(ties(coarse) if tied else coarse))
        best = WINNERS[winner](x)
        return (x == best).sum(1), (best == x).sum(1), (x >= best).sum(1), x, x.gather(1, label(x))

    agrees(program, monkeypatch, computed=1, dtype=dtype)


PARTS: dict[str, Callable[[Tensor], Any]] = {
    "images": lambda x: [(i == i.max(0, keepdim=True)[0]).sum(0) for i in x],
    "pieces": lambda x: [(p == p.amax(1, keepdim=True)).sum(1) for p in x.split(1)],
    "the last image, and all": lambda x: (x == x[1:].max(1, keepdim=True)[0]).sum(1)[1],
    "classes last": lambda x: (
        (y := x.permute(0, 2, 3, 1).contiguous()) == y.max(-1, keepdim=True)[0]
    ).sum(-1),
    "rows": lambda x: (
        (y := x.permute(0, 2, 3, 1).reshape(-1, 5)) == y.max(1, keepdim=True)[0]
    ).sum(1),
    "a copy": lambda x: (x.clone() == x.max(1, keepdim=True)[0]).sum(1),
    "channels_last": lambda x: (
        (y := x.contiguous(memory_format=torch.channels_last)) == y.max(1, keepdim=True)[0]
    ).sum(1),
    "made again": lambda x: (x.exp().log() * 0 + x == x.max(1, keepdim=True)[0]).sum(1),
    "by vmap": lambda x: torch.func.vmap(lambda a, b: (a == b).sum(0))(
        x.detach(), x.detach().max(1, keepdim=True)[0]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PARTS)
def test_winners_of_parts(name: str, kind: str) -> None:
    assert_as_plain(lambda coarse: PARTS[name](KINDS[kind](up(coarse))), scores)


@pytest.mark.parametrize("kind", KINDS)
def test_winners_of_what_was_computed_elsewhere(kind: str) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        before = KINDS[kind](logits.clone()) * 1
        best = KINDS[kind](logits).max(1, keepdim=True)[0]
        after = KINDS[kind](logits.clone()) * 1
        return (before == best).sum(1), (after == best).sum(1)

    assert_as_plain(program, scores)


@pytest.mark.parametrize("kind", KINDS)
def test_elements(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the rank of a label is counted, or whether it has won."""

    def program(coarse: Tensor) -> Any:
        x = KINDS[kind](up(ties(coarse.detach())))
        mine = x.gather(1, label(x))
        also = x[1:].gather(1, label(x)[1:])
        won = (mine >= x.amax(1, keepdim=True), mine == x.amax(1, keepdim=True))
        winner = x.gather(1, x.argmax(1, keepdim=True)) == x.max(1, keepdim=True)[0]
        return won, winner, (x > mine).sum(1), (x == mine).sum(1), (x[1:] == also).sum(1)

    agrees(program, monkeypatch, computed=1)


def test_what_is_done_to_told_values_is_not_done_to_the_tensor() -> None:
    def program(coarse: Tensor) -> Any:
        x = up(coarse.detach()).softmax(1)
        (best, winner), index = x.max(1), label(x)
        mine = x.gather(1, index)
        for tensor in (best, winner, index, mine):
            tensor.zero_()
        return x, x.max(1), x.gather(1, index)

    assert_as_plain(program, scores)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_amax(kind: str, tied: bool) -> None:
    """It is shared by what equals the result."""

    def program(coarse: Tensor) -> Any:
        x = KINDS[kind](up(ties(coarse) if tied else coarse))
        best = x.amax(1, keepdim=True)
        ((best * 3).sum() + (x - best).exp().sum()).backward()
        return best, coarse.grad

    assert_as_plain(program, scores)


def test_in_inference_mode() -> None:
    def program(coarse: Tensor) -> Any:
        with torch.inference_mode():
            x = up(coarse).softmax(1)
            return (x == x.max(1, keepdim=True)[0]).sum(1), x

    assert_as_plain(program, scores)


def test_amax_of_other_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(
        lambda coarse: (up(coarse).amax(), up(coarse).amax((1, 2)), up(coarse).amax(2)),
        monkeypatch,
        computed=3,
    )


def test_amax_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = up(coarse.detach())
        return x.amax(1), x.softmax(1).amax(1, keepdim=True), x.permute(0, 2, 3, 1).amax(-1)

    agrees(program, monkeypatch, computed=0)


def test_size_of_what_is_kept() -> None:
    """Labels as bytes, and no values."""
    with fused_upsampling():
        x = up(scores().detach()).softmax(1)
        x.gather(1, label(x))
        x.max(1)
    told = x.recipe.snapshot.told  # type: ignore[attr-defined]
    (_, kept), *others = told._labels["softmax", range(5)]
    assert (kept.dtype, kept.shape) == (torch.uint8, (2, *SIZE))
    assert not others
