"""The elements of labels straight from coarse scores, by ``gather``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .common import (
    Loss,
    agrees,
    assert_as_plain,
    assert_as_plain_or_refused,
    labels,
    outcome,
    scores,
    up,
    with_gradient,
)


def target() -> Tensor:
    return labels().clamp(min=0)


def index() -> Tensor:
    return target().unsqueeze(1)


def mined(logits: Tensor) -> Tensor:
    """The hard pixels, as HRNet, DDRNet and PIDNet find them."""
    probability = F.softmax(logits, dim=1).gather(1, index())
    each = F.cross_entropy(logits, labels(), reduction="none").view(-1)
    valid = labels().view(-1) != -100
    ordered, order = probability.reshape(-1)[valid].sort()
    threshold = ordered[200].clamp(min=0.1)
    return each[valid][order][ordered < threshold].mean()


def sampled(logits: Tensor) -> Tensor:
    """The same as mmsegmentation's sampler weighs them."""
    with torch.no_grad():
        weight = logits.new_zeros(labels().shape)
        probability = logits.softmax(1).gather(1, index()).squeeze(1)
        weight[(labels() != -100) & (probability < 0.2)] = 1
    return (F.cross_entropy(logits, labels(), reduction="none") * weight).mean()


def focal(logits: Tensor) -> Tensor:
    rows = logits.view(2, 5, -1).transpose(1, 2).contiguous().view(-1, 5)
    logarithm = F.log_softmax(rows, dim=1).gather(1, target().view(-1, 1)).view(-1)
    return -((1 - logarithm.detach().exp()) ** 2 * logarithm).mean()


LOSSES: dict[str, Loss] = {
    "hard pixels": mined,
    "sampled pixels": sampled,
    "focal": focal,
    "focal with a gradient": lambda x: (
        (p := torch.gather(x.softmax(1), 1, index())).log() * (1 - p).square()
    ).mean(),
    "generalized cross-entropy": lambda x: (1 - x.softmax(1).gather(1, index()) ** 0.7).mean(),
    "negative logarithm": lambda x: -x.log_softmax(1).gather(dim=1, index=index()).mean(),
    "classes last": lambda x: (
        x.permute(0, 2, 3, 1).softmax(-1).gather(-1, target().unsqueeze(-1)).square().mean()
    ),
    "columns first": lambda x: (
        x.permute(3, 1, 0, 2).softmax(1).gather(1, index().permute(3, 1, 0, 2)).square().mean()
    ),
    "one image": lambda x: x[1].log_softmax(0).gather(0, index()[1]).square().mean(),
    "two of them": lambda x: (
        ((p := x.softmax(1)).gather(1, index()) - p.gather(1, 4 - index())).square().mean()
    ),
    "beside the loss": lambda x: (
        F.cross_entropy(x, labels()) - x.softmax(1).gather(1, index()).mean()
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if dtype == torch.bfloat16 and "pixels" in name:
        pytest.skip("rounding decides which pixels are hard")
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0, dtype=dtype)


@pytest.mark.parametrize("kind", [F.softmax, F.log_softmax, lambda x, dim: x])
def test_without_a_gradient(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = kind(up(coarse.detach()), dim=1)
        return x.gather(1, index()), x[1].gather(0, index()[1]), x.mT.gather(1, index().mT)

    agrees(program, monkeypatch, computed=0)


OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "several of a pixel": lambda p: p.gather(1, index().repeat(1, 2, 1, 1)),
    "some pixels": lambda p: p.gather(1, index()[:1, :, 1:]),
    "another dimension": lambda p: p.gather(2, index()),
    "int32": lambda p: p.gather(1, index().int()),
    "too large": lambda p: p.gather(1, index() + 1),
    "negative": lambda p: p.gather(1, index() - 1),
    "void": lambda p: p.gather(1, labels().unsqueeze(1)),
    "too few dimensions": lambda p: p.gather(1, target()),
    "no dimension": lambda p: p.gather(7, index()),
    "a flag": lambda p: p.gather(True, index()),
    "sparse": lambda p: torch.gather(p.detach(), 1, index(), sparse_grad=True),
    "out": lambda p: torch.gather(p.detach(), 1, index(), out=p.new_empty(0)),
    "nothing": lambda p: p.gather(1),  # type: ignore[call-overload]
    "taken along": lambda p: torch.take_along_dim(p, index(), 1),
    "of sigmoids": lambda p: p.log().sigmoid().gather(1, index()),
}


@pytest.mark.parametrize("kind", [F.softmax, F.log_softmax, lambda x, dim: x])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_torchs(name: str, kind: Any) -> None:
    def program(coarse: Tensor) -> Any:
        return OTHERS[name](kind(up(coarse), dim=1))

    assert_as_plain_or_refused(program)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_scores_and_gradients_that_are_not_finite(value: float) -> None:
    def program(coarse: Tensor) -> Any:
        gathered = [F.softmax(up(coarse), 1).gather(1, index())]
        gathered[0].sum().mul(value).backward()
        with torch.no_grad():
            coarse[0, 1, 2, 3] = value
        gathered.append(F.log_softmax(up(coarse), 1).gather(1, index()))
        return gathered, coarse.grad

    assert_as_plain(program, scores)


@pytest.mark.parametrize("kind", [F.softmax, F.log_softmax, lambda x, dim: x])
def test_second_derivative(kind: Any) -> None:
    def program(coarse: Tensor) -> Any:
        loss = kind(up(coarse), dim=1).gather(1, index()).square().sum()
        (first,) = torch.autograd.grad(loss, coarse, create_graph=True)
        return first, torch.autograd.grad(first.square().sum(), coarse)[0]

    assert_as_plain(program, scores)


@pytest.mark.parametrize("changed", ["index", "probabilities"])
def test_changed_before_the_backward_pass(changed: str) -> None:
    """Refused, as by torch."""

    def program(coarse: Tensor) -> Any:
        given = {"index": index(), "probabilities": up(coarse).softmax(1)}
        loss = given["probabilities"].gather(1, given["index"]).sum()
        given[changed].mul_(2)
        loss.backward()

    plain = outcome(program, scores(), fused=False)
    ours = outcome(program, scores(), fused=True)
    assert type(ours) is type(plain) is RuntimeError
