"""Resize, crop, resize and argmax, against the three steps at full size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fcn_ext import reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.prediction import _rows, argmax_cropped
from tests.ops.contract import LAYOUTS
from tests.ops.heads import SCORE_TYPES

CASES: list[tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int], Geometry]] = [
    ((40, 56), (0, 0, 31, 56), (47, 83), Resize()),
    ((40, 56), (3, 5, 31, 40), (11, 7), Resize(align_corners=True)),
    ((40, 56), (4, 7, 36, 49), (36, 49), Resize()),
    ((40, 56), (39, 55, 1, 1), (3, 4), Deconvolution(8, offset=(4, 3))),
    ((40, 56), (2, 0, 33, 55), (64, 5), Deconvolution(16, offset=(20, 30))),
    ((9, 4), (1, 1, 8, 3), (1, 1), Resize()),
    ((9, 4), (0, 0, 9, 4), (2, 50), Resize()),
]


def plain(scores: torch.Tensor, case: Any, align_corners: bool) -> torch.Tensor:
    padded, (top, left, height, width), size, geometry = case
    full = reference.at_full_size(scores.double(), padded, geometry)
    own = full[:, :, top : top + height, left : left + width]
    return F.interpolate(own, size, mode="bilinear", align_corners=align_corners)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("align_corners", "tile"), [(False, 1), (True, 2000), (False, 2**19)])
def test_equals_the_three_steps(
    case: Any, align_corners: bool, tile: int, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    monkeypatch.setattr(_rows, "TILE", tile)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, 6, 7, dtype=torch.float64, generator=generator)
    expected = plain(scores, case, align_corners)
    options: dict[str, Any] = {"align_corners": align_corners, "return_probability": True}
    labels, probability = argmax_cropped(scores.to(device), *case, **options)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.cpu().long(), expected.argmax(1))
    sure = expected.softmax(1).amax(1)
    torch.testing.assert_close(probability.cpu(), sure, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_type_and_layout(layout: Any) -> None:
    for dtype in SCORE_TYPES:
        scores = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
        expected = plain(scores, CASES[0], False)
        labels = argmax_cropped(layout(scores), *CASES[0], dtype=torch.int64)
        best = expected.topk(2, 1).values
        decided = best[:, 0] - best[:, 1] > 1e-5
        assert decided.sum() > 0.99 * decided.numel()
        assert torch.equal(labels[decided], expected.argmax(1)[decided])


def test_ties_and_no_images() -> None:
    assert not argmax_cropped(torch.zeros(1, 3, 2, 2), 9, (1, 2, 5, 5), 7).any()
    assert argmax_cropped(torch.zeros(0, 3, 2, 2), 9, (1, 2, 5, 5), (7, 8)).shape == (0, 7, 8)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"window": (0, 0, 10, 4)}, ValueError, r"window must lie in the padded size \(8, 8\)"),
        ({"window": 3}, TypeError, r"window must be \(top, left, height, width\), got 3"),
        ({"size": (0, 3)}, ValueError, r"size must be in \[1, 2\*\*30\], got \(0, 3\)"),
        ({"padded_size": 0}, ValueError, r"padded_size must be in \[1, 2\*\*30\], got \(0, 0\)"),
        ({"padded_size": None}, TypeError, "padded_size must be given with a Resize"),
        ({"align_corners": 1}, TypeError, "align_corners must be a bool, got 1"),
        ({"dtype": torch.float32}, ValueError, "dtype must be"),
        ({"return_probability": 1}, TypeError, "return_probability must be a bool, got 1"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "scores": torch.zeros(1, 3, 2, 2),
        "padded_size": 8,
        "window": (0, 0, 8, 6),
        "size": 5,
    }
    with pytest.raises(error, match=message):
        argmax_cropped(**(arguments | changed))
