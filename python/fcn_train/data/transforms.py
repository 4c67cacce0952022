"""Augmentation and conversion to tensors.

A transform is a pure function of an `Example` and a generator: the same generator state always
gives the same result. Images are resampled bilinearly, labels by nearest neighbor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.depth import HHA_MEAN, Channels, log_depth
from fcn_train.data.example import Example
from fcn_train.data.jitter import Jitter
from fcn_train.model_options import VOC_MEAN

Transform = Callable[[Example, np.random.Generator], Example]

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


@dataclass(frozen=True)
class Mirror:
    """Mirrors left and right with the given probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, got {self.probability}")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        return example.changed(_mirrored, _mirrored, _mirrored)


@dataclass(frozen=True)
class RandomScale:
    """Resizes both sides by one factor, uniform in [low, high], to at least one pixel."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"scale must satisfy 0 < low <= high, got ({self.low}, {self.high})")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        factor = rng.uniform(self.low, self.high)
        height, width = (max(1, round(side * factor)) for side in example.label.shape)
        return resize(example, height, width)


@dataclass(frozen=True)
class RandomCrop:
    """Cuts a (height, width) window at a uniformly random place.

    An image smaller than the window lies at a random place inside it; the rest has the color
    `fill`, the label `IGNORE_INDEX` and no depth.
    """

    height: int
    width: int
    fill: tuple[int, int, int] = MEAN_COLOR

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"crop must be at least 1 x 1, got {self.height} x {self.width}")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        height, width = example.label.shape
        top, source_rows, rows = _window(height, self.height, rng)
        left, source_columns, columns = _window(width, self.width, rng)
        if (height, width) == (rows, columns) == (self.height, self.width):
            return example
        target = np.s_[top : top + rows, left : left + columns]
        source = np.s_[source_rows : source_rows + rows, source_columns : source_columns + columns]

        def cut(values: np.ndarray, fill: int | tuple[int, int, int]) -> np.ndarray:
            window = np.empty((self.height, self.width, *values.shape[2:]), dtype=values.dtype)
            window[:] = fill
            window[target] = values[source]
            return window

        return example.changed(
            lambda image: cut(image, self.fill),
            lambda label: cut(label, IGNORE_INDEX),
            lambda depth: cut(depth, 0),
        )


@dataclass(frozen=True)
class Compose:
    """Applies transforms one after the other, with one generator; without any it is the
    identity."""

    transforms: tuple[Transform, ...] = ()

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        for transform in self.transforms:
            example = transform(example, rng)
        return example


def augmentation(
    *,
    mirror: bool = True,
    scale: tuple[float, float] = (1.0, 1.0),
    jitter: int = 0,
    crop: int = 0,
    fill: tuple[int, int, int] = MEAN_COLOR,
) -> Compose:
    """Mirror, then random scale, then jitter, then a square random crop; `crop` 0 keeps the native
    size, `fill` is the color outside the image after jitter or a crop.

    Raises:
        ValueError: if `scale` is not 0 < low <= high or `jitter` or `crop` is negative.
    """
    transforms: list[Transform] = []
    if mirror:
        transforms.append(Mirror())
    if scale != (1.0, 1.0):
        transforms.append(RandomScale(*scale))
    if jitter:
        transforms.append(Jitter(jitter, fill))
    if crop:
        transforms.append(RandomCrop(crop, crop, fill))
    return Compose(tuple(transforms))


def resize(example: Example, height: int, width: int) -> Example:
    """The example at another size: image bilinear (area-weighted when shrinking), labels nearest,
    depth and HHA bilinear over the pixels that have a value."""
    if example.label.shape == (height, width):
        return example
    size = (width, height)

    def resized(values: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.array(Image.fromarray(np.ascontiguousarray(values)).resize(size, how))

    def depth_resized(values: np.ndarray) -> np.ndarray:
        channels = values.reshape(*values.shape[:2], -1).astype(np.float32)
        known = (channels[:, :, :1] > 0).astype(np.float32)
        sums = [
            resized(channel, Image.Resampling.BILINEAR)
            for channel in np.moveaxis(np.concatenate([channels * known, known], axis=2), 2, 0)
        ]
        weight = sums.pop()
        enough = weight >= 0.5
        means = [np.where(enough, np.rint(s / np.where(enough, weight, 1)), 0) for s in sums]
        shape = (height, width, *values.shape[2:])
        return np.stack(means, axis=2).astype(values.dtype).reshape(shape)

    return example.changed(
        lambda image: resized(image, Image.Resampling.BILINEAR),
        lambda label: resized(label, Image.Resampling.NEAREST),
        depth_resized,
    )


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


class Batch(NamedTuple):
    """Examples stacked for the network.

    images: (N, C, H, W) float32, normalized; zero (the mean color) where padded. Or uint8, from
    `input_to_bytes`. targets: (N, H, W) uint8; `IGNORE_INDEX` where void or padded. ids: the N
    names. sizes: the N (height, width) before padding; image i fills the top left corner.
    more_targets: targets of further sets of classes, each like `targets`.
    """

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    more_targets: tuple[Tensor, ...] = ()

    @property
    def all_targets(self) -> tuple[Tensor, ...]:
        """The targets of every set of classes."""
        return (self.targets, *self.more_targets)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same images, targets, names and sizes."""
        if not isinstance(other, Batch):
            return NotImplemented
        mine, theirs = ((b.images, *b.all_targets) for b in (self, other))
        same = len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))
        return same and (self.ids, self.sizes) == (other.ids, other.sizes)

    def __ne__(self, other: object) -> bool:
        return not self == other


def collate(tensors: Sequence[tuple[Tensor, ...]], ids: Sequence[str]) -> Batch:
    """Stack examples; smaller ones are padded at the right and bottom to the largest.

    Args:
        tensors: for each example, at least one, the image (C, H, W) and one or more labels (H, W).
        ids: the names of the examples.
    """
    sizes = tuple((label.shape[0], label.shape[1]) for _, label, *_ in tensors)
    size = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
    images, targets, *more = (
        _stack(parts, size, IGNORE_INDEX if number else 0)
        for number, parts in enumerate(zip(*tensors, strict=True))
    )
    return Batch(images, targets, tuple(ids), sizes, tuple(more))


def padded(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch as `collate` would pad it with an example of (height, width) `size` in it."""
    if batch.targets.shape[1:] == size:
        return batch
    targets, *more = (_stack(list(one), size, IGNORE_INDEX) for one in batch.all_targets)
    return Batch(_stack(list(batch.images), size, 0), targets, batch.ids, batch.sizes, tuple(more))


def _stack(parts: Sequence[Tensor], size: tuple[int, int], fill: int) -> Tensor:
    """Maps (..., H, W) of one batch, each padded to `size`."""
    if all(part.shape[-2:] == size for part in parts):
        return torch.stack(list(parts))
    stacked = parts[0].new_full((len(parts), *parts[0].shape[:-2], *size), fill)
    for padded, part in zip(stacked, parts, strict=True):
        padded[..., : part.shape[-2], : part.shape[-1]] = part
    return stacked


def _mirrored(values: np.ndarray) -> np.ndarray:
    return values[:, ::-1]


def _window(size: int, crop: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Along one axis: start in the crop, start in the image, and length of their intersection."""
    if size >= crop:
        return 0, int(rng.integers(size - crop + 1)), crop
    return int(rng.integers(crop - size + 1)), 0, size
