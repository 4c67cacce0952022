"""Labels at each image's own size, against F.interpolate and argmax one image at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fcn_ext import reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.prediction import CoarseWindows, argmax_cropped, argmax_sizes

SIZES = [(20, 31), (1, 1), (5, 40)]


@pytest.mark.parametrize(
    "geometry", [Resize(), Resize(align_corners=True), Deconvolution(8, offset=3)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_each_image_alone(
    geometry: Geometry, layout: torch.memory_format, device: torch.device
) -> None:
    scores = torch.randn(3, 6, 7, 8, dtype=torch.float64).contiguous(memory_format=layout)
    scores[1, 2:4] = 9.0  # a tie
    scores[0, 4, 3, 3] = torch.nan  # no output lies on this node
    labels = argmax_sizes(scores.to(device), SIZES, geometry)
    for image, size in enumerate(SIZES):
        expected = reference.argmax(scores[image : image + 1], size, geometry)[0]
        assert labels[image].dtype == torch.uint8
        assert torch.equal(labels[image].cpu(), expected.to(torch.uint8))


@pytest.mark.parametrize("sizes", [SIZES, torch.tensor(SIZES), [list(size) for size in SIZES]])
def test_sizes_as_list_or_tensor(sizes: Any) -> None:
    labels = argmax_sizes(torch.zeros(3, 2, 4, 4), sizes, dtype=torch.int64)
    assert [tuple(map.shape) for map in labels] == SIZES
    assert all(map.dtype == torch.int64 and not map.any() for map in labels)


def test_no_images() -> None:
    assert argmax_sizes(torch.zeros(0, 2, 4, 4), []) == []
    assert argmax_sizes(torch.zeros(0, 2, 4, 4), torch.zeros(0, 2, dtype=torch.int64)) == []


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([(8, 8)], ValueError, "sizes must have a size for each image, 2, got 1"),
        ([(8, 8), (8.5, 8)], TypeError, r"sizes\[1\] must be an integer, got 8.5"),
        ([(8, 8), (8, 8, 8)], ValueError, r"sizes\[1\] must be an integer or a pair"),
        (torch.ones(2, 2), TypeError, r"sizes\[0\] must be an integer, got 1.0"),
        ([(8, 8), (0, 8)], ValueError, r"sizes\[1\] must be in \[1, 2\*\*30\], got \(0, 8\)"),
        ([(8, 8), (8, 2**31)], ValueError, r"sizes\[1\] must be in \[1, 2\*\*30\], got \(8, 2"),
        (8, TypeError, r"sizes must be a list of \(height, width\) or a tensor \(N, 2\), got 8"),
        ("88", TypeError, "sizes must be a list"),
        (b"88", TypeError, "sizes must be a list"),
        (bytearray(b"88"), TypeError, "sizes must be a list"),
    ],
)
def test_wrong_sizes(sizes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        argmax_sizes(torch.zeros(2, 3, 4, 4), sizes)


@pytest.mark.parametrize(
    "predicted",
    [
        lambda scores: argmax_sizes(scores, [(5, 5)]),
        lambda scores: argmax_cropped(scores, 9, (0, 0, 5, 5), 7),
        lambda scores: CoarseWindows(9).add(scores),
    ],
)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), "must be float32, float64, float16 or"),
        (torch.zeros(1, 0, 4, 4), "must have at least one channel"),
        (torch.zeros(1, 40000, 1, 1), "must have at most 32768 channels"),
        (torch.zeros(1, 3, 0, 4), "must have at least one row and one column"),
    ],
)
def test_scores_that_are_none_are_called_so(predicted: Any, scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^scores {message}"):
        predicted(scores)


def test_sizes_without_values_are_refused() -> None:
    sizes = torch.tensor([[3, 4], [5, 6]], device="meta")
    with pytest.raises(ValueError, match=r"^sizes must have values, got a tensor on the meta"):
        argmax_sizes(torch.zeros(2, 3, 4, 5), sizes)
