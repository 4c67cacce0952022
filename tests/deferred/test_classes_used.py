"""Whatever else is done with slices of classes is torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .common import assert_as_plain, assert_same, labels, outcome, scores, up

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda x: x,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "sigmoid": lambda x: x.sigmoid(),
}


def changed(x: Tensor) -> Any:
    y = x.detach().clone()
    y[:, 1].mul_(2)
    y[:, 3:].zero_()
    y[:, 0] = 7
    part = y[:, 1:3]
    before = part._version
    y.add_(1)
    return y, part, part._version - before, y.max(1), part.max(1)


def refused(x: Tensor) -> Any:
    loss = F.cross_entropy(x[:, 1:], labels(4))
    x[:, 0].mul_(2)
    return loss


def kept(x: Tensor) -> Any:
    part = x[:, 1:]
    part.retain_grad()
    hooked = []
    part.register_hook(lambda grad: hooked.append(grad.abs().sum()))
    loss = F.cross_entropy(part, labels(4))
    loss.backward()
    return loss, part.grad, hooked


USES: dict[str, Callable[[Tensor], Any]] = {
    "some": lambda x: x[:, 1:] * 2,
    "every other": lambda x: x[:, ::2].exp(),
    "one": lambda x: (x[:, 0].relu(), x[:, -1].mean()),
    "none": lambda x: x[:, 2:2],
    "too many": lambda x: x[:, 3:99].sum(1),
    "out of range": lambda x: x[:, 5],
    "no such dimension": lambda x: x.narrow(4, 0, 1),
    "differences": lambda x: x[:, 1] - x[:, 0],
    "winners of some": lambda x: x[:, 1:].max(1),
    "labels of some": lambda x: x[:, 1:].argmax(1),
    "threshold": lambda x: (x[:, 1] > 0.4, x[:, :2] <= 0.3, x[:, 2].lt(0.1), x[:, 2].round()),
    "softmax again": lambda x: x[:, 1:].softmax(1)[:, 1:].softmax(1).max(1),
    "flipped": lambda x: x[:, 1:].flip(1).argmax(1),
    "a list": lambda x: (x[:, [1, 3]] * 2, x[:, [3, 1]].argmax(1)),
    "index_select": lambda x: x.index_select(1, torch.tensor([4, 0])),
    "masked": lambda x: x[:, torch.tensor([True, False, True, False, True])],
    "expanded": lambda x: x[:, :1].expand(-1, 3, -1, -1) + 1,
    "put together": lambda x: torch.cat([x[:, 1:], x[:, :1]], 1).argmax(1),
    "copies": lambda x: (x[:, 1:].clone(), x[:, 1].contiguous(), x[:, 1:].float()),
    "views": lambda x: (x[:, 1:].mT, x[:, 1].unsqueeze(1), x[:, 1:3].flatten(2)[..., 5]),
    "losses": lambda x: F.nll_loss(x[:, 1:], labels(4)),
    "loss of the log": lambda x: F.nll_loss(x.clamp(min=1e-3).log()[:, 1:], labels(4)),
    "dice": lambda x: 1 - (x[:, 1] * labels(2).clamp(min=0)).sum() / x[:, 1].sum(),
    "array": lambda x: x.detach()[:, 1].numpy(),
    "memory": lambda x: x.detach()[:, 1:].untyped_storage().nbytes(),
    "changed": changed,
    "refused": refused,
    "kept": kept,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", USES)
def test_uses(name: str, kind: str) -> None:
    """What is none of ours is torch's, and so is its gradient."""

    def program(coarse: Tensor) -> Any:
        result = USES[name](KINDS[kind](up(coarse)))
        parts = result if isinstance(result, (tuple, list)) else [result]
        total = [p.sum() for p in parts if isinstance(p, Tensor) and p.requires_grad]
        if total and name != "kept":
            torch.stack(total).sum().backward()
        return result, coarse.grad

    plain = outcome(program, scores(), fused=False)
    ours = outcome(program, scores(), fused=True)
    assert_same(ours, plain)
    if isinstance(plain, Exception):
        assert str(ours) == str(plain)


TOLD: dict[str, Callable[[Tensor], Any]] = {
    "some, then all": lambda x: (x[:, 1:].amax(1, True) == x).sum(1),
    "all, then some": lambda x: (
        ((y := x.amax(1, True)) == x[:, 1:]).sum(1) + (y == x[:, 0:1])[:, 0]
    ),
    "some and all": lambda x: ((x[:, 2:].amax(1, True) == x).sum(1), (x.amax(1, True) == x).sum(1)),
    "overlapping": lambda x: (
        (x[:, :3].amax(1, True) == x).sum(1),
        (x[:, 2:].amax(1, True) == x).sum(1),
    ),
    "some of some": lambda x: (x[:, 1:][:, 1:].amax(1, True) == x[:, 1:]).sum(1),
    "a copy of some": lambda x: (x.amax(1, True) == x[:, 1:].clone()).sum(1),
    "a copy beside": lambda x: (x[:, 2:].amax(1, True) == x[:, 1:4].clone()).sum(1),
    "every other": lambda x: (x[:, ::2].amax(1, True) == x).sum(1),
    "an image's": lambda x: (x[1:, 1:].amax(1, True) == x[1:]).sum(1),
    "elements": lambda x: (x[:, 1:].gather(1, labels(4).clamp(min=0)[:, None]) == x.clone()).sum(1),
    "after a plane": lambda x: (x[:, 1] * 1 == x.amax(1)).sum(),
    "after some": lambda x: ((y := x[:, 1:] * 1).amax(1) == x.amax(1), y == x[:, 1:].clone()),
    "planes": lambda x: [p * 1 == x[:, i] * 1 for i, p in enumerate(x.unbind(1))],
    "one after another": lambda x: [(x[:, i] * 1 == x.amax(1)) for i in range(5)],
    "changed": lambda x: ((x[:, 1] * 1).sum(), x[:, 1].mul_(2), x[:, 1] * 1, x),
    "changed, all": lambda x: ((y := x[:, 1]) * 1, x.mul_(2), y * 1, y.mul_(2), x * 1),
}


@pytest.mark.parametrize("kind", ["logits", "softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", TOLD)
def test_numbers_agree_with_those_given_before(
    name: str, tied: bool, dtype: torch.dtype, kind: str
) -> None:
    def program(coarse: Tensor) -> Any:
        coarse = coarse.detach()
        if tied:  # in quarters, which torch resizes exactly
            coarse.mul_(4).round_().div_(4)
            coarse[:, 3] = coarse[:, 1]
        return TOLD[name](KINDS[kind](up(coarse)))

    assert_as_plain(program, lambda: scores(dtype))


def test_in_inference_mode() -> None:
    def program(coarse: Tensor) -> Any:
        with torch.inference_mode():
            x = up(coarse)
            return x[:, 1:].argmax(1), x[:, 0] > 0, x.softmax(1)[:, 1], x[:, 1] * 2, x

    assert_as_plain(program, scores)


def test_by_vmap() -> None:
    def program(coarse: Tensor) -> Any:
        return torch.func.vmap(lambda x: x[1:].exp().sum(0))(up(coarse.detach()))

    assert_as_plain(program, scores)
