"""Gradients that are deferred: what they say of themselves is what torch's would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling

from .common import TOLERANCE, agrees, assert_as_plain, labels, scores, up, with_gradient


def _pixels(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), *logits.shape[2:], dtype=torch.int64)


def _ones(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape, dtype=logits.dtype)


LOSSES_OF_VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda x: F.cross_entropy(x, _pixels(x)),
    "of pixels": lambda x: F.cross_entropy(x, _pixels(x), reduction="none").sum(),
    "smoothed": lambda x: F.cross_entropy(x, _pixels(x), label_smoothing=0.1),
    "smoothed, of pixels": lambda x: F.cross_entropy(
        x, _pixels(x), label_smoothing=0.1, reduction="none"
    ).sum(),
    "smoothed and not": lambda x: (
        F.cross_entropy(x, _pixels(x), label_smoothing=0.1) + F.cross_entropy(x, _pixels(x))
    ),
    "sigmoid": lambda x: F.binary_cross_entropy_with_logits(x, _ones(x)),
    "sigmoid, of pixels": lambda x: F.binary_cross_entropy_with_logits(
        x, _ones(x), reduction="none"
    ).sum(),
}
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.transpose(2, 3),
    "pixels and classes": lambda x: x[0].flatten(1).T,
    "rows": lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]),
    "flat": lambda x: x.flatten(2),
    "permuted": lambda x: x.permute(3, 1, 2, 0),
    "one image": lambda x: x[:1],
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("loss", LOSSES_OF_VIEWS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("last", [False, True])
def test_strides_of_gradients(loss: str, view: str, last: bool) -> None:
    """Where a hook sees them and where they arrive; and those that a gradient says it has are those
    of its elements."""

    def program(coarse: Tensor) -> Any:
        form = torch.channels_last if last else torch.contiguous_format
        given, seen = coarse.contiguous(memory_format=form) * 1, []

        def hook(gradient: Tensor) -> None:
            again = torch.as_strided(gradient, gradient.shape, gradient.stride())
            seen.append((gradient.stride(), gradient + 0, again + 0))

        logits = VIEWS[view](up(given))
        logits.register_hook(hook)
        (result,) = torch.autograd.grad(LOSSES_OF_VIEWS[loss](logits), given)
        return seen, result.stride(), result

    assert_as_plain(program, scores)


def _dice(logits: Tensor) -> Tensor:
    probability = logits.softmax(1)
    one_hot = F.one_hot(labels().clamp(min=0), 5).movedim(-1, 1)
    overlap = (probability * one_hot).sum((0, 2, 3))
    return (1 - 2 * overlap / (probability + one_hot).sum((0, 2, 3))).mean()


def _entropy(logits: Tensor) -> Tensor:
    probability = logits.softmax(1)
    return -(probability * (probability + 1e-8).log()).sum(1).mean()


bce = F.binary_cross_entropy_with_logits

BESIDE: dict[str, Callable[[Tensor], Tensor]] = {
    "Dice": lambda x: F.cross_entropy(x, labels()) + _dice(x),
    "Dice first": lambda x: _dice(x) + 0.5 * F.cross_entropy(x, labels()),
    "Dice of masks": lambda x: bce(x, _ones(x) * 0.5) + (1 - 2 * x.sigmoid().mean()).square(),
    "entropy": lambda x: F.cross_entropy(x, labels(), label_smoothing=0.1) + _entropy(x),
    "three": lambda x: (
        _dice(x) + F.cross_entropy(x, labels()) + F.cross_entropy(x, _pixels(x)) + bce(x, _ones(x))
    ),
    "of rows": lambda x: (
        F.cross_entropy(y := x.permute(0, 2, 3, 1).reshape(-1, 5), labels().view(-1))
        + y.softmax(-1).square().mean()
    ),
    "logarithms": lambda x: (
        F.nll_loss(p := x.log_softmax(1), labels()) - p.gather(1, _pixels(x)[:, None]).mean()
    ),
    "smoothing by hand": lambda x: (
        -(
            0.9 * (p := x.log_softmax(1)).gather(1, _pixels(x)[:, None])
            + 0.1 * p.mean(1, keepdim=True)
        ).mean()
    ),
    "probabilities": lambda x: (
        (p := x.softmax(1)).gather(1, _pixels(x)[:, None]).square().mean() - (p * p).mean()
    ),
    "half of the images": lambda x: F.cross_entropy(x[:1], labels()[:1]) + _dice(x),
    "floats": lambda x: F.cross_entropy(x.float(), labels()) + _dice(x.float()),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", BESIDE)
def test_beside_a_loss_of_torch(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full gradient of one is computed, and that of the other is not."""
    tolerances = {**TOLERANCE, torch.float64: 1e-6} if name == "floats" else TOLERANCE
    monkeypatch.setattr("tests.deferred.common.TOLERANCE", tolerances)
    program = with_gradient(BESIDE[name])
    computed = int(name not in ("logarithms", "smoothing by hand"))
    agrees(program, monkeypatch, computed=computed, dtype=dtype)


@pytest.mark.parametrize("name", BESIDE)
def test_who_looks_at_their_sum(name: str) -> None:
    if name == "floats":
        pytest.skip("rounds to single precision")

    def program(coarse: Tensor) -> Any:
        logits, seen = up(coarse), []
        logits.retain_grad()
        logits.register_hook(lambda grad: seen.append((grad + 0, grad.stride())))
        BESIDE[name](logits).backward()
        again = up(coarse)
        (first,) = torch.autograd.grad(BESIDE[name](again), coarse, create_graph=True)
        return seen, logits.grad, coarse.grad, first

    assert_as_plain(program, scores)


@pytest.mark.parametrize("factor", [torch.inf, torch.nan, 1e308])
def test_beside_what_is_not_finite(factor: float) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        (F.cross_entropy(logits, labels()) + (logits[:, 0, 3, 5] * 1e10 * factor).sum()).backward()
        return coarse.grad

    assert_as_plain(program, scores)


def _of(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits, retain_graph=True)[0]


def _summed(logits: Tensor) -> Any:
    first, second = (_of(F.cross_entropy(logits, t), logits) for t in (labels(), _pixels(logits)))
    other = torch.ones_like(first)
    sums = first + second, second + first, first + other, other + first
    joined = torch.cat([first, second]), torch.stack([second, first])
    for tensor in (first, second, other):
        tensor.zero_()
    return sums, joined


def _one(logits: Tensor) -> Tensor:
    return _pixels(logits).unsqueeze(1)


def _probabilities(logits: Tensor) -> Any:
    logits.retain_grad()
    found = []
    for loss, kind in (
        (lambda p: F.nll_loss(p, labels()), F.log_softmax),
        (lambda p: p.gather(1, _one(logits)).sum(), F.softmax),
        (lambda p: p.gather(1, _one(logits)).sum() + F.nll_loss(p, labels()), F.log_softmax),
    ):
        for change in (
            lambda p: p.detach().zero_(),
            lambda p: p.detach().numpy().fill(2),
            lambda p: ((computed := p.detach()) * 2, computed[0].zero_()),
        ):
            probability = kind(logits, 1)
            loss(probability).backward(retain_graph=True)
            change(probability)
            del probability
            found.append(logits.grad)
            logits.grad = None
    return found


def _logits(logits: Tensor) -> Any:
    found = [
        _of(loss, logits)
        for loss in (
            F.cross_entropy(logits, labels()),
            F.cross_entropy(logits, labels(), label_smoothing=0.1),
            bce(logits, _ones(logits)),
            logits.softmax(1).gather(1, _one(logits)).sum(),
        )
    ]
    logits.detach().zero_()
    return found


CHANGED: dict[str, Callable[[Tensor], Any]] = {
    "gradients": _summed,
    "probabilities": _probabilities,
    "logits": _logits,
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_changes_before_they_are_looked_at(name: str) -> None:
    assert_as_plain(lambda coarse: CHANGED[name](up(coarse)), scores)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["target", "weight"])
def test_what_they_need_has_changed(name: str, smoothing: float) -> None:
    """They are refused, not computed from something else."""
    given = {"target": labels().clamp(min=0), "weight": torch.ones(5).double()}
    coarse = scores()
    with fused_upsampling():
        logits = up(coarse)
        loss = F.cross_entropy(logits, **given, label_smoothing=smoothing)
    gradient, _ = torch.autograd.grad(loss, (logits, coarse))
    given[name].add_(1)
    with pytest.raises(RuntimeError, match="changed in place after the backward pass"):
        gradient.sum()
