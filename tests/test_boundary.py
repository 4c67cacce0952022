"""Boundary IoU, against masks that are eroded pixel by pixel, class by class."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import ops
from fcn_ext.boundary import BoundaryIoU
from fcn_ext.geometry import Deconvolution
from fcn_ext.metrics import ConfusionMatrix
from tests.ops.heads import LABEL_TYPES


def outline(mask: Tensor, ratio: float) -> Tensor:
    """A mask less what `distance` erosions by 3 x 3 leave; outside of the image is none of it."""
    eroded = mask.double()
    for _ in range(max(1, round(ratio * math.sqrt(mask.shape[1] ** 2 + mask.shape[2] ** 2)))):
        eroded = -F.max_pool2d(-F.pad(eroded, (1, 1, 1, 1)), 3, 1)
    return mask & (eroded == 0)


def plain(
    prediction: Tensor, target: Tensor, num_classes: int, ratio: float = 0.02, void: int = 255
) -> np.ndarray:
    iou = []
    valid = target.long() != void
    for number in range(num_classes):
        theirs = outline((target.long() == number) & valid, ratio)
        ours = outline((prediction.long() == number) & valid, ratio)
        union = int((theirs | ours).sum())
        iou.append(int((theirs & ours).sum()) / union if union else math.nan)
    return np.array(iou)


def patches(n: int, height: int, width: int, classes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, classes, height // 12 + 1, width // 12 + 1)
    scores = F.interpolate(torch.randn(shape, generator=generator), (height, width))
    noise = torch.rand(n, height, width, generator=generator) > 0.995
    return torch.where(noise, 1, scores.argmax(1))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 3), (41, 50), (64, 7), (90, 131)])
@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.1])
def test_equals_erosions(size: tuple[int, int], ratio: float, device: torch.device) -> None:
    target, prediction = (patches(2, *size, 4, seed) for seed in (0, 1))
    prediction[:, : size[0] // 2] = target[:, : size[0] // 2]
    target[:, size[0] // 3, size[1] // 3 :] = 255
    boundary = BoundaryIoU(4, dilation_ratio=ratio)
    for image in range(2):  # a batch at a time
        one = slice(image, image + 1)
        boundary.update(prediction[one].to(device), target[one].to(device))
    scores = boundary.compute()
    expected = plain(prediction, target, 4, ratio)
    np.testing.assert_array_equal(scores.class_iou, expected)
    there = expected[~np.isnan(expected)]
    np.testing.assert_equal(scores.mean_iou, there.mean() if there.size else math.nan)


@pytest.mark.parametrize("dtype", LABEL_TYPES)
def test_any_labels_and_layout(dtype: torch.dtype) -> None:
    target, prediction = (patches(2, 33, 40, 3, seed).to(dtype) for seed in (0, 1))
    boundary = BoundaryIoU(3, ignore_index=2)
    boundary.update(prediction.mT.contiguous().mT, target.mT.contiguous().mT)
    expected = plain(prediction, target, 3, void=2)
    np.testing.assert_array_equal(boundary.compute().class_iou, expected)


def test_coarse_scores_are_their_labels() -> None:
    scores, target = torch.randn(2, 3, 8, 9), patches(2, 60, 61, 3, 0)
    by_scores, by_labels = BoundaryIoU(3), BoundaryIoU(3)
    geometry = Deconvolution(8, offset=4)
    by_scores.update_scores(scores, target, geometry)
    by_labels.update(ops.argmax(scores, (60, 61), geometry), target)
    np.testing.assert_array_equal(by_scores.compute().class_iou, by_labels.compute().class_iou)


def test_nothing_void_and_reset() -> None:
    boundary = BoundaryIoU(2, class_names=("a", "b"))
    assert math.isnan(boundary.compute().mean_iou)
    boundary.update(torch.zeros(0, 4, 4).byte(), torch.zeros(0, 4, 4).byte())
    boundary.update(torch.zeros(1, 9, 9).byte(), torch.full((1, 9, 9), 255))
    assert np.isnan(boundary.compute().class_iou).all()
    right = torch.zeros(1, 9, 9, dtype=torch.uint8)
    boundary.update(right, right)
    other = copy.deepcopy(boundary)
    boundary.reset()
    assert math.isnan(boundary.compute().mean_iou)
    assert other.compute().mean_iou == 1.0


def test_labels_out_of_range_are_told() -> None:
    boundary = BoundaryIoU(2)
    target = torch.zeros(1, 9, 9, dtype=torch.int64)
    prediction = target.clone()
    target[0, 0, :2] = 2
    target[0, 8, 8] = -7
    prediction[0, 4, 4] = 3
    boundary.update(prediction, target)
    with pytest.raises(ValueError, match="got 4 pixels that are not"):
        boundary.compute()
    assert 0 < boundary.compute(on_invalid="drop").mean_iou <= 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BoundaryIoU(0), ValueError, r"num_classes must be in \[1, 32766\], got 0"),
        (lambda: BoundaryIoU(2, dilation_ratio=-1), ValueError, "dilation_ratio must be >= 0"),
        (lambda: BoundaryIoU(2, dilation_ratio=math.nan), ValueError, "dilation_ratio must be"),
        (lambda: BoundaryIoU(2, class_names=["a"]), ValueError, "class_names must have"),
        (lambda: BoundaryIoU(2).compute(on_invalid="no"), ValueError, "on_invalid must be"),
        (lambda: update((1, 4, 4), (1, 4, 5)), ValueError, "prediction must have the shape"),
        (lambda: update((4, 4), (4, 4)), ValueError, r"prediction must have shape \(N, H, W\)"),
        (lambda: update((1, 4, 4), (1, 4, 4), torch.float32), ValueError, "must be uint8, int16"),
        (
            lambda: BoundaryIoU(2).update_scores(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 4)),
            ValueError,
            "scores must have num_classes = 2 channels",
        ),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def update(
    prediction: tuple[int, ...], target: tuple[int, ...], dtype: torch.dtype = torch.uint8
) -> None:
    BoundaryIoU(2).update(torch.zeros(prediction, dtype=dtype), torch.zeros(target, dtype=dtype))


@pytest.mark.parametrize("kind", [BoundaryIoU, ConfusionMatrix])
@pytest.mark.parametrize("names", [3, "abc", True, {"a"}, frozenset({"a"})])
def test_class_names_that_are_no_list_are_refused(kind: Any, names: Any) -> None:
    with pytest.raises(
        TypeError, match=re.escape(f"class_names must be a list of names, got {names!r}")
    ):
        kind(3, class_names=names)


@pytest.mark.parametrize("kind", [BoundaryIoU, ConfusionMatrix])
def test_class_names_come_as_any_list(kind: Any) -> None:
    for names in (["a", "b"], iter("ab"), {"a": 0, "b": 1}, np.array(["a", "b"])):
        assert kind(2, class_names=names).class_names == ("a", "b")
    with pytest.raises(ValueError, match=r"^class_names must have num_classes = 2 names, got 3$"):
        kind(2, class_names=iter("abc"))


@pytest.mark.parametrize("ratio", [1.0, 1e300, 1.7e308, np.float64(1e308)])
def test_outlines_wider_than_the_image_are_the_image(ratio: Any) -> None:
    """Also where the width in pixels would be infinite."""
    labels = torch.randint(0, 3, (2, 9, 12), generator=torch.Generator().manual_seed(0))
    boundary, counts = BoundaryIoU(3, dilation_ratio=ratio), ConfusionMatrix(3)
    boundary.update(labels.flip(2), labels)
    counts.update(labels.flip(2), labels)
    assert np.array_equal(boundary.compute().class_iou, counts.compute().class_iu)


def test_it_says_what_it_counts() -> None:
    boundary = BoundaryIoU(3, dilation_ratio=0.1, ignore_index=0)
    assert repr(boundary) == "BoundaryIoU(num_classes=3, dilation_ratio=0.1, ignore_index=0)"
