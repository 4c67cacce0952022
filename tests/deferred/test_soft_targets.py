"""Cross-entropy with a probability for each class as the target, straight from coarse scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from . import common
from .common import SIZE, Loss, agrees, assert_as_plain, labels, outcome, up, with_gradient

ce = F.cross_entropy


def drawn(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)


def one_hot(x: Tensor) -> Tensor:
    """channels_last, as ``one_hot`` leaves it."""
    classes = labels().clamp(min=0) % x.shape[1]
    return F.one_hot(classes, x.shape[1]).permute(0, 3, 1, 2).to(x.dtype)


def per_class(x: Tensor) -> Tensor:
    return torch.linspace(0, 3, x.shape[1], dtype=x.dtype)


@pytest.mark.parametrize(
    ("reduction", "weight", "smoothing", "target"),
    list(
        itertools.product(
            ["mean", "sum"], [None, per_class], [0.0, 0.2, 1.0], [drawn, lambda x: one_hot(x)]
        )
    ),
)
def test_options(
    reduction: str, weight: Any, smoothing: float, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(x: Tensor) -> Tensor:
        weights = None if weight is None else weight(x)
        return ce(x, target(x), weights, reduction=reduction, label_smoothing=smoothing)

    agrees(with_gradient(loss), monkeypatch, computed=0)


LOSSES: dict[str, Loss] = {
    "rows": lambda x: ce(
        x.permute(0, 2, 3, 1).reshape(-1, 5), one_hot(x).permute(0, 2, 3, 1).reshape(-1, 5)
    ),
    "turned": lambda x: ce(x.mT, drawn(x).mT),
    "an image": lambda x: ce(x[1:], drawn(x)[1:]),
    "some classes": lambda x: ce(x[:, 1:], one_hot(x[:, 1:])),
    "mixed labels": lambda x: 0.3 * ce(x, one_hot(x)) + 0.7 * ce(x, one_hot(x).flip(0)),
    "beside labels": lambda x: ce(x, labels()) + ce(x, 0.5 * one_hot(x) + 0.1),
    "beyond one and below zero": lambda x: ce(x, 3 * drawn(x) - 1, reduction="sum"),
    "nothing": lambda x: ce(x, torch.zeros_like(x)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_forms_of_it(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0, dtype=dtype)


@pytest.mark.parametrize("weight", [None, per_class])
def test_autocast(weight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = up(coarse)
            weights = None if weight is None else weight(x)
            loss = ce(x, one_hot(x), weights) + ce(x, one_hot(x).bfloat16(), weights)
        loss.backward()
        return loss, coarse.grad

    agrees(program, monkeypatch, computed=0, dtype=torch.float32)


def test_a_teachers_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed once, the student's logits never."""

    def program(coarse: Tensor) -> Any:
        teacher = up(coarse.detach().flip(0)).softmax(1)
        loss = ce(up(coarse), teacher) + ce(up(coarse).detach(), teacher)
        loss.backward()
        return loss, coarse.grad

    agrees(program, monkeypatch, computed=1)


def test_the_gradient_of_the_logits() -> None:
    """Strides and all, also of channels_last ones."""

    def program(coarse: Tensor) -> Any:
        found = []
        for format in (torch.contiguous_format, torch.channels_last):
            x = up(coarse.contiguous(memory_format=format))
            for loss in (ce(x, drawn(x)), ce(x, one_hot(x))):
                found += torch.autograd.grad(loss, x, retain_graph=True)
        return found

    assert_as_plain(program, common.scores)


def test_small_losses_are_exact() -> None:
    """A loss of thousandths is the difference of large numbers."""
    generator = torch.Generator().manual_seed(1)
    sure = torch.randint(0, 5, (2, 6, 7), generator=generator)
    coarse = 80 * F.one_hot(sure, 5).permute(0, 3, 1, 2).float() + 30
    target = F.one_hot(up(coarse).argmax(1), 5).permute(0, 3, 1, 2).float()
    exact = ce(up(coarse.double()), target.double())
    with common.fcn_ext.fused_upsampling():
        found = ce(up(coarse), target)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "each pixel": lambda x: ce(x, drawn(x), reduction="none"),
    "a crop": lambda x: ce(x[:, :, 2:], drawn(x)[:, :, 2:]),
    "of a softmax": lambda x: ce(x.softmax(1), drawn(x)),
    "a target with gradient": lambda x: ce(x, x.softmax(1)),
    "weights with gradient": lambda x: ce(x, drawn(x), per_class(x).requires_grad_()),
    "another dtype": lambda x: ce(x, drawn(x).float()),
    "not a number": lambda x: ce(x, drawn(x) * torch.nan),
    "infinite": lambda x: ce(x, one_hot(x) / 0),
    "infinite weights": lambda x: ce(x, drawn(x), per_class(x) * torch.inf),
    "too large": lambda x: ce(x * 1e300, drawn(x) * 1e300),
    "void": lambda x: ce(x, drawn(x), ignore_index=255),
    "a weight too many": lambda x: ce(x, drawn(x), x.new_ones(6)),
    "too smooth": lambda x: ce(x, drawn(x), label_smoothing=1.5),
    "another size": lambda x: ce(x, drawn(x)[..., 1:]),
    "labels of a float": lambda x: ce(x, labels().to(x.dtype)),
    "an unknown reduction": lambda x: ce(x, drawn(x), reduction="median"),
    "the former names": lambda x: ce(x, drawn(x), size_average=False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_torchs(name: str) -> None:
    common.assert_as_plain_or_refused(with_gradient(OTHERS[name]))


def test_gradients_that_are_not_finite() -> None:
    def program(coarse: Tensor) -> Any:
        (ce(up(coarse), drawn(up(coarse))) * torch.inf).backward()
        return coarse.grad

    assert_as_plain(program, common.scores)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_second_derivative(smoothing: float) -> None:
    def program(coarse: Tensor) -> Any:
        loss = ce(up(coarse), drawn(up(coarse)), label_smoothing=smoothing)
        (first,) = torch.autograd.grad(loss, coarse, create_graph=True)
        return first, torch.autograd.grad(first.square().sum(), coarse)[0]

    assert_as_plain(program, common.scores)


def test_changed_before_the_backward_pass() -> None:
    """Refused, as by torch."""

    def program(coarse: Tensor) -> Any:
        target = torch.ones(2, 5, *SIZE, dtype=torch.float64)
        loss = ce(up(coarse), target)
        target.zero_()
        loss.backward()

    for fused in (False, True):
        assert "modified by an inplace" in str(outcome(program, common.scores(), fused=fused))
