"""From pixels to what a network sees: colors, depth and HHA minus their means."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fcn_train.data.depth import HHA_MEAN, Channels, log_depth
from fcn_train.data.example import Example
from fcn_train.model_options import VOC_MEAN

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalization:
    """How 8-bit RGB becomes network input: `(value - mean) / std`, then the channel order.

    mean, std: R, G, B in units of 0..255.
    bgr: put the channels in the order B, G, R after that.

    Raises:
        ValueError: if a mean is not finite or a deviation not positive, or there are not three.
    """

    mean: Triple
    std: Triple = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __post_init__(self) -> None:
        for name, values, least, rule in (
            ("mean", self.mean, -math.inf, "finite"),
            ("std", self.std, 0.0, "finite and > 0"),
        ):
            if len(values) != 3 or not all(least < value < math.inf for value in values):
                raise ValueError(f"{name} must be three numbers, {rule}, got {values}")

    @property
    def color(self) -> tuple[int, int, int]:
        """The 8-bit color that normalization maps to about zero."""
        red, green, blue = (round(value) for value in self.mean)
        return red, green, blue


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of ImageNet, as torchvision's weights expect."""

CAFFE = Normalization(VOC_MEAN, bgr=True)
"""BGR minus the VGG16 mean, as Caffe's weights expect (the reference repository's VOC layers)."""

MEAN_COLOR = CAFFE.color
"""Padding of images: the rounded mean, so about zero after normalization."""


def image_to_tensor(image: np.ndarray, normalization: Normalization) -> Tensor:
    """(H, W, 3) uint8 RGB to a normalized (3, H, W) float32 tensor.

    Raises:
        TypeError: ``image`` is not an array, or ``normalization`` not a `Normalization`.
        ValueError: ``image`` has another shape or dtype.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be an array, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if not isinstance(normalization, Normalization):
        raise TypeError(
            f"normalization must be one as IMAGENET or CAFFE, got {type(normalization).__name__}"
        )
    values = image.astype(np.float32)
    values -= np.asarray(normalization.mean, dtype=np.float32)
    values /= np.asarray(normalization.std, dtype=np.float32)
    if normalization.bgr:
        values = values[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def hha_normalization(color: Normalization) -> Normalization:
    """The normalization of HHA: minus its mean, divided by the mean of the color's deviations."""
    return Normalization(HHA_MEAN, (sum(color.std) / 3,) * 3)


def input_to_tensor(
    example: Example, normalization: Normalization, channels: Channels = "color"
) -> Tensor:
    """What a network sees of an example, (C, H, W) float32.

    Color as by `image_to_tensor`, then `log_depth`; or HHA with `hha_normalization`, and 0 where
    depth is missing.

    Args:
        example: read with these channels.
        normalization: that of the color.
        channels: the channels, in order.
    """
    parts = []
    if channels.startswith("color"):
        parts.append(image_to_tensor(example.image, normalization))
    if "depth" in channels:
        assert example.depth is not None
        parts.append(torch.from_numpy(log_depth(example.depth))[None])
    if "hha" in channels:
        assert example.hha is not None
        known = torch.from_numpy(example.hha[:, :, 0] > 0)
        parts.append(image_to_tensor(example.hha, hha_normalization(normalization)) * known)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def to_tensors(
    example: Example, normalization: Normalization, channels: Channels = "color"
) -> tuple[Tensor, ...]:
    """What a network sees, as `input_to_tensor`, and an (H, W) uint8 label for each set."""
    labels = (torch.from_numpy(label.copy()) for label in example.labels)
    return (input_to_tensor(example, normalization, channels), *labels)
