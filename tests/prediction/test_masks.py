"""Masks with area and box, against a comparison of the scores at full size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Deconvolution
from fcn_ext.prediction import _masks, masks
from tests.ops.contract import LAYOUTS
from tests.ops.heads import CASES, PLAIN, SCORE_TYPES, Case


def box_of(mask: Tensor) -> list[int]:
    y, x = mask.nonzero(as_tuple=True)
    if len(y) == 0:
        return [0, 0, 0, 0]
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def check(case: Case, scores: Tensor, limit: float = 0.0, **options: Any) -> Tensor:
    """The masks, compared with those of the float64 scores; on the edge both sides are right."""
    found = masks(scores, case.fine, case.geometry, **options)
    full = reference.at_full_size(scores.double().cpu(), case.fine, case.geometry)
    result = found.masks.cpu()
    assert result.dtype == torch.bool
    decided = ((full - limit).abs() > 1e-5) | full.isnan()
    assert torch.equal(result[decided], (full > limit)[decided])
    assert torch.equal(found.area.cpu(), result.sum((2, 3)))
    for image, query in np.ndindex(*scores.shape[:2]):
        assert found.box[image, query].tolist() == box_of(result[image, query])
    packed = masks(scores, case.fine, case.geometry, packed=True, **options)
    expected = np.packbits(result.numpy(), axis=-1)
    assert packed.masks.dtype == torch.uint8
    assert np.array_equal(packed.masks.cpu().numpy(), expected)
    assert torch.equal(packed.area, found.area)
    assert torch.equal(packed.box, found.box)
    return result


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_a_comparison_at_full_size(case: Case, device: torch.device) -> None:
    for dtype in (torch.float64, torch.float32):
        scores = case.scores(2, 3, dtype).to(device)
        check(case, scores)
        check(case, scores, 0.7, threshold=0.7)
        check(case, scores, -0.3, threshold=-0.3)
        check(case, scores, math.log(0.9 / 0.1), probability=0.9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_type_and_layout(layout: Any) -> None:
    for case in PLAIN:
        for dtype in SCORE_TYPES:
            check(case, layout(case.scores(2, 5, dtype)), 0.3, threshold=0.3)


@pytest.mark.parametrize("chunk", [1, 300, 700])
def test_chunks_make_no_difference(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = PLAIN[0]
    scores = case.scores(2, 5)
    whole = masks(scores, case.fine, case.geometry)
    monkeypatch.setattr(_masks, "CHUNK", chunk)
    parts = masks(scores, case.fine, case.geometry)
    assert all(torch.equal(*pair) for pair in zip(whole, parts, strict=True))


def test_ties_and_nan_are_outside() -> None:
    """As with `scores > threshold`."""
    for threshold in (0.0, -0.0, 0.1, -0.1, 1 / 3):
        for dtype in SCORE_TYPES:
            equal = torch.full((1, 1, 3, 3), threshold, dtype=dtype)
            limit = float(equal[0, 0, 0, 0])
            assert not masks(equal, (7, 5), threshold=limit).masks.any()
    scores = torch.ones(1, 1, 4, 4)
    scores[0, 0, 1, 1] = torch.nan
    full = reference.interpolate(scores, (4, 4))
    assert torch.equal(masks(scores, (4, 4)).masks, full > 0)


def test_probabilities_at_the_ends() -> None:
    scores = torch.tensor([-1e30, -5.0, 5.0, 1e30]).view(1, 4, 1, 1)
    assert masks(scores, 1, probability=0.0).masks.all()
    assert not masks(scores, 1, probability=1.0).masks.any()
    infinite = torch.tensor([-torch.inf, torch.inf]).view(1, 2, 1, 1)
    assert masks(infinite, 2).area.tolist() == [[0, 4]]
    assert masks(infinite, 2, threshold=math.inf).area.tolist() == [[0, 0]]
    assert masks(infinite, 2, threshold=-math.inf).area.tolist() == [[0, 4]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "threshold", [-math.inf, -1.7e308, -1e39, -1e5, 1e5, 1e39, 1.7e308, math.inf]
)
def test_thresholds_that_the_dtype_does_not_reach(dtype: torch.dtype, threshold: float) -> None:
    scores = torch.randn(1, 2, 3, 4).to(dtype)
    area = masks(scores, (7, 9), threshold=threshold).area
    assert area.tolist() == [[63 * (threshold < 0)] * 2]


def test_a_border_of_zeros_keeps_to_the_threshold() -> None:
    """Where a deconvolution fades, 0 exceeds a negative threshold and no positive one."""
    scores = torch.full((1, 1, 1, 1), 8.0)
    for threshold in (-1.0, 3.0):
        full = reference.at_full_size(scores.double(), (16, 16), Deconvolution(8))
        found = masks(scores, None, Deconvolution(8), threshold=threshold)
        assert torch.equal(found.masks, full > threshold)


def test_one_pixel_and_nothing() -> None:
    one = masks(torch.ones(1, 1, 1, 1), 1, packed=True)
    assert (one.masks.item(), one.area.item(), one.box.tolist()) == (128, 1, [[[0, 0, 1, 1]]])
    for shape in ((0, 3), (2, 0)):
        none = masks(torch.zeros(*shape, 4, 4), (9, 17), packed=True)
        assert none.masks.shape == (*shape, 9, 3)
        assert none.area.shape == shape
        assert none.box.shape == (*shape, 4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probability": 1.5}, ValueError, r"probability must be in \[0, 1\], got 1.5"),
        ({"probability": math.nan}, ValueError, "probability must be a number, got nan"),
        ({"threshold": math.nan}, ValueError, "threshold must be a number, got nan"),
        ({"threshold": "0"}, TypeError, "threshold must be a number, got '0'"),
        ({"threshold": 0.0, "probability": 0.5}, ValueError, "threshold must be left out"),
        ({"packed": 1}, TypeError, "packed must be a bool, got 1"),
        ({"size": None}, TypeError, "size must be given with a Resize, got None"),
        ({"size": (0, 4)}, ValueError, r"size must be in \[1, 2\*\*30\], got \(0, 4\)"),
        ({"geometry": 8}, TypeError, "geometry must be a fcn_ext.geometry"),
        ({"scores": torch.zeros(3, 4, 4)}, ValueError, r"scores must have shape \(N, C, H, W\)"),
        ({"scores": torch.zeros(1, 1, 4, 4).int()}, ValueError, "must be float"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"scores": torch.zeros(1, 1, 4, 4), "size": 8, **options}
    with pytest.raises(error, match=message):
        masks(**arguments)
