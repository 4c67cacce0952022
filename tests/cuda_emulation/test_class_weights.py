"""Class weights that are not finite, in the emulated kernels of the cross-entropy: a class without
pixels does not affect loss and gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from .cross_entropy_cases import MAPS, Case, call, call_pixels, expected, labels, scores
from .operands import INF, NAN

if TYPE_CHECKING:
    from .library import Emulation

CLASSES = 7
# Weights of classes 5 and 6, which no pixel has, and of class 1.
WEIGHTS = {
    "absent infinite": {5: INF},
    "absent NaN": {6: NAN},
    "absent and zero": {1: 0.0, 5: INF, 6: NAN},
    "present infinite": {1: INF},
    "present NaN": {1: NAN, 5: INF},
}


def assert_alike(actual: Tensor, wanted: Tensor, tolerance: float, *, loss: bool = False) -> None:
    """Asserts that finite numbers agree and that all others are not finite in both; in losses they
    must be the same infinity or NaN."""
    actual = actual.double()
    finite = wanted.isfinite()
    assert torch.equal(actual.isfinite(), finite)
    assert not loss or torch.equal(actual[~finite].isnan(), wanted[~finite].isnan())
    if finite.any():
        scale = max(1.0, float(wanted[finite].abs().max()))
        assert (actual - wanted)[finite].abs().max() <= tolerance * scale


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "any size", "down"])
def test_weights_that_are_not_finite(
    emulation: Emulation, name: str, dtype: torch.dtype, weights: str, smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(len(name) + len(weights))
    map = MAPS[name]
    weight = torch.rand(CLASSES, generator=generator, dtype=torch.float64) + 0.1
    for c, value in WEIGHTS[weights].items():
        weight[c] = value
    case = Case(map, weight, smoothing)
    input = scores(generator, (2, CLASSES, *map.input_size), dtype)
    target = labels(generator, (2, *map.output_size), 5, torch.int64)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    wanted = expected(case, input, target)
    for with_gradient in (True, False):
        result = call(emulation, case, input, target, with_gradient=with_gradient)
        assert_alike(result.loss, wanted.loss.sum(), tolerance, loss=True)
        assert_alike(result.total_weight, wanted.total_weight, 1e-6)
        if with_gradient:
            assert_alike(result.gradient, wanted.gradient, tolerance)
    factor = torch.rand(target.shape, generator=generator, dtype=torch.float64) + 0.5
    wanted = expected(case, input, target, factor)
    losses, gradient = call_pixels(emulation, case, input, target, factor)
    assert_alike(losses, wanted.loss, tolerance, loss=True)
    assert_alike(gradient, wanted.gradient, tolerance)
