"""How the tests of the fused losses compare: on the scale of what is summed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops, reference

from .heads import Case, interpolated, loss_and_gradient, upsampled

REDUCTIONS = ["none", "sum", "mean"]
# Of the gradient, relative to its largest element: it is computed in float32 and rounded once.
GRADIENT = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def near(actual: Tensor, expected: Tensor, tolerance: float, least: float = 0.01) -> None:
    """Equal but for `tolerance` times the largest element (or `least`, where all are zero)."""
    assert actual.shape == expected.shape
    if actual.numel():
        error = float((actual.double() - expected.double()).abs().max())
        largest = float(expected.abs().max())
        assert error <= tolerance * max(largest, least), (error, largest)


def assert_matches(case: Case, scores: Tensor, target: Tensor, **options: Any) -> None:
    """Against float64 plain PyTorch of the same, rounded, scores."""
    wide = dict(options)
    if options.get("weight") is not None:
        wide["weight"] = options["weight"].double()
    expected, expected_gradient = loss_and_gradient(
        reference, case, scores.double(), target, **wide
    )
    loss, gradient = loss_and_gradient(ops, case, scores, target, **options)
    assert loss.dtype == (torch.float64 if scores.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == scores.dtype
    # A sum's errors cancel; those of single pixels are of the size of the scores, however small the
    # loss.
    exact = 1e-12 if scores.dtype == torch.float64 else 1e-6 if loss.dim() == 0 else 4e-6
    near(loss, expected, exact, 0.1)
    # What a gradient's terms add up to if they do not cancel, as all of a single class do, and
    # those of equal scores where labels are smoothed by one: a power is as far off as the 32 pixels
    # of its row were from the first, 2e-6.
    terms = float(case.weights().sum((1, 2)).max())
    least = terms if scores.shape[1] == 1 else 0.2 * terms
    near(gradient, expected_gradient, GRADIENT[scores.dtype], least)
    with torch.no_grad():  # the pass without a gradient is another one
        alone = case.head(ops, "cross_entropy", scores, target, **options)
    near(alone, expected, exact, 0.1)


# Where scores are equal all terms of a sum are rounded alike, and to the same side.
MANY_PIXELS_OF_A_CELL = [
    interpolated((1, 8), (26, 208)),
    interpolated((1, 3), (64, 600), align_corners=True),
    interpolated((2, 2), (300, 500)),
    interpolated((1, 1), (16, 3000)),
    upsampled((1, 8), 26),
]
