from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fcn_train.data import (
    CAFFE,
    IMAGENET,
    Mirror,
    Normalization,
    augmentation,
    image_to_tensor,
    to_tensors,
)
from fcn_train.data.normalization import MEAN_COLOR

from .marked import marked

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((1.0, 2.0), ONES, r"mean must be three numbers, finite, got \(1\.0, 2\.0\)"),
        ((0.0, math.nan, 0.0), ONES, "mean must be three numbers, finite"),
        (ZEROS, (1.0, 0.0, 1.0), "std must be three numbers, finite and > 0"),
        (ZEROS, (1.0, 1.0, math.inf), "std must be three numbers, finite and > 0"),
        (ZEROS, (1.0, -1.0, 1.0), "std must be three numbers, finite and > 0"),
    ],
)
def test_numbers_that_normalize_nothing_are_refused(mean: Any, std: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalization(mean, std)


def test_normalization_and_channel_order() -> None:
    image = np.array([[[10, 20, 30]]], dtype=np.uint8)
    plain = image_to_tensor(image, Normalization((1.0, 2.0, 3.0), (2.0, 4.0, 8.0)))
    assert plain.flatten().tolist() == [4.5, 4.5, 3.375]
    caffe = image_to_tensor(image, CAFFE).flatten()
    expected = torch.tensor([30 - 104.00699, 20 - 116.66877, 10 - 122.67892])
    torch.testing.assert_close(caffe, expected)


@pytest.mark.parametrize("normalization", [IMAGENET, CAFFE])
def test_padding_color_is_about_zero_after_normalization(normalization: Normalization) -> None:
    image = np.array([[MEAN_COLOR]], dtype=np.uint8)
    one_level = image_to_tensor(image + 1, normalization) - image_to_tensor(image, normalization)
    assert (image_to_tensor(image, normalization).abs() <= one_level).all()


def test_tensors_have_the_layout_the_network_takes() -> None:
    image, label = to_tensors(marked(4, 6), IMAGENET)
    assert (image.shape, image.dtype) == ((3, 4, 6), torch.float32)
    assert (label.shape, label.dtype) == ((4, 6), torch.uint8)
    assert image.is_contiguous()


def test_tensors_come_from_mirrored_views_as_well() -> None:
    mirrored = Mirror(1.0)(marked(4, 6), np.random.default_rng(0))
    image, label = to_tensors(mirrored, Normalization((0.0, 0.0, 0.0)))
    assert image[1, 0].tolist() == [5, 4, 3, 2, 1, 0]
    assert np.array_equal(label.numpy(), mirrored.label)


@pytest.mark.parametrize("mean", [(92.318, 97.203, 116.190), (108.353, 115.294, 114.578)])
def test_padding_is_about_zero_whatever_the_mean_color(mean: tuple[float, float, float]) -> None:
    normalization = Normalization(mean, bgr=True)
    transform = augmentation(mirror=False, crop=9, fill=normalization.color)
    padded = transform(marked(2, 3), np.random.default_rng(0))
    image, label = to_tensors(padded, normalization)
    assert (label == 255).sum() == 81 - 6
    assert image[:, label == 255].abs().max() <= 0.5
