"""Class weights of every value and layout: infinite and NaN ones, of classes that pixels have and
of classes that none has; columns of a table."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize

from .losses import REDUCTIONS

INF, NAN = float("inf"), float("nan")
CLASSES, VOID = 6, 255
MAPS: dict[str, tuple[Geometry, tuple[int, int], tuple[int, int]]] = {
    "deconvolution": (Deconvolution(8), (4, 5), (40, 48)),
    "odd kernel": (Deconvolution(4, 7, 3), (5, 4), (17, 14)),
    "whole ratio": (Resize(), (4, 6), (16, 24)),
    "any ratio": (Resize(), (5, 7), (17, 23)),
    "corners": (Resize(align_corners=True), (5, 7), (17, 23)),
    "one to one": (Deconvolution(1), (9, 8), (9, 8)),
}
# Of classes 4 and 5, which no pixel has, and of class 1, which some have.
WEIGHTS = {
    "absent infinite": {4: INF},
    "absent NaN": {5: NAN},
    "absent both": {4: INF, 5: NAN},
    "absent and zero": {1: 0.0, 4: INF, 5: 0.0},
    "present infinite": {1: INF},
    "present NaN": {1: NAN},
    "present and absent": {1: INF, 4: INF, 5: NAN},
    "zero": {1: 0.0, 4: 0.0},
}


def operands(
    name: str, changed: dict[int, float], dtype: torch.dtype, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels in [0, 4) of blocks, and weights in the type that losses are summed in."""
    _, size, fine = MAPS[name]
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn((2, CLASSES, *size), generator=generator)
    target = torch.randint(0, 4, (2, *fine), generator=generator)
    target[0, : fine[0] // 2] = 0
    target[torch.rand(target.shape, generator=generator) < 0.1] = VOID
    weight = torch.rand(CLASSES, generator=generator, dtype=torch.float64) + 0.1
    for c, value in changed.items():
        weight[c] = value
    return scores.to(dtype), target, weight.to(ops_dtype(dtype))


def ops_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def loss_and_gradient(
    function: object, scores: Tensor, *arguments: object, factor: Tensor | None, **options: object
) -> tuple[Tensor, Tensor]:
    scores = scores.detach().requires_grad_()
    loss = function(scores, *arguments, **options)  # type: ignore[operator]
    grad = torch.ones_like(loss) if factor is None else factor.to(loss)
    (gradient,) = torch.autograd.grad(loss, scores, grad)
    return loss.detach().double(), gradient.double()


def assert_alike(actual: Tensor, expected: Tensor, tolerance: float, *, spreads: bool) -> None:
    """Finite numbers agree. What is not finite is so in both; with `spreads`, the reference may
    have more of it: it multiplies infinities by weights of zero."""
    finite = expected.isfinite()
    assert actual[finite].isfinite().all()
    if not spreads:
        assert torch.equal(actual.isfinite(), finite)
    scale = max(1.0, float(expected[finite].abs().max())) if finite.any() else 1.0
    assert finite.sum() == 0 or (actual - expected)[finite].abs().max() <= tolerance * scale


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", MAPS)
def test_weights_that_are_not_finite(
    name: str, weights: str, smoothing: float, device: torch.device
) -> None:
    geometry = MAPS[name][0]
    rng = random.Random(f"{name} {weights}")
    for reduction in REDUCTIONS:
        for dtype in (torch.float32, torch.float64):
            scores, target, weight = operands(name, WEIGHTS[weights], dtype, rng.randrange(2**31))
            factor = torch.rand(target.shape) + 0.5 if reduction == "none" else None
            options = {"reduction": reduction, "label_smoothing": smoothing}
            loss, gradient = loss_and_gradient(
                ops.cross_entropy,
                scores.to(device),
                target.to(device),
                geometry,
                factor=None if factor is None else factor.to(device),
                weight=weight.to(device),
                **options,
            )
            expected, expected_gradient = loss_and_gradient(
                reference.cross_entropy,
                scores.double(),
                target,
                geometry,
                factor=factor,
                weight=weight.double(),
                **options,
            )
            tolerance = 1e-5 if dtype == torch.float32 else 1e-12
            loss, gradient = loss.cpu(), gradient.cpu()
            assert_alike(loss, expected, tolerance, spreads=False)
            if expected.isfinite().all() or reduction != "mean":
                assert_alike(gradient, expected_gradient, tolerance, spreads=name == "corners")
            else:  # also zeros, of nodes that void pixels read alone, over a total of NaN are NaN
                assert not gradient[~expected_gradient.isfinite()].isfinite().any()
            if device.type == "cpu":
                assert torch.equal(loss.isinf(), expected.isinf())
            if smoothing == 0 and "present" not in weights and reduction != "none":
                assert loss.isfinite()
                assert gradient.isfinite().all()


def test_random_weights(device: torch.device) -> None:
    """Any mixture of them, of a class of pixels in every other map."""
    rng = random.Random(7)
    for seed in range(60):
        name, reduction = rng.choice(sorted(MAPS)), rng.choice(REDUCTIONS)
        changed = {c: rng.choice([INF, NAN, 0.0, 1.0]) for c in rng.sample(range(CLASSES), 3)}
        smoothing = rng.choice([0.0, 0.0, 0.2])
        scores, target, weight = operands(name, changed, torch.float32, seed)
        loss = ops.cross_entropy(
            scores.to(device),
            target.to(device),
            MAPS[name][0],
            weight=weight.to(device),
            reduction=reduction,
            label_smoothing=smoothing,
        )
        expected = reference.cross_entropy(
            scores.double(),
            target,
            MAPS[name][0],
            weight=weight.double(),
            reduction=reduction,
            label_smoothing=smoothing,
        )
        assert_alike(loss.double().cpu(), expected, 1e-5, spreads=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layout", ["column", "every third", "reversed", "expanded"])
def test_layouts_of_weights(layout: str, reduction: str, device: torch.device) -> None:
    geometry = Deconvolution(8)
    scores, target, weight = operands("deconvolution", {}, torch.float32, 5)
    if layout == "column":
        given = torch.stack([weight, torch.full_like(weight, NAN)], 1).to(device)[:, 0]
    elif layout == "every third":
        given = torch.full((3 * CLASSES,), NAN, device=device)[::3]
        given.copy_(weight)
    elif layout == "reversed":  # read backwards by nobody: a copy in the order of its elements
        given = weight.flip(0).to(device).flip(0)
    else:
        weight = torch.full_like(weight, 0.5)
        given = torch.tensor(0.5, device=device).expand(CLASSES)
    factor = torch.rand(target.shape) if reduction == "none" else None
    factor = None if factor is None else factor.to(device)
    operand = scores.to(device), target.to(device), geometry
    for options in ({}, {"label_smoothing": 0.1}):
        results = [
            loss_and_gradient(
                ops.cross_entropy, *operand, factor=factor, weight=w, reduction=reduction, **options
            )
            for w in (given, weight.to(device))
        ]
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
