"""Augmentation.

A transform is a pure function of an `Example` and a generator: the same generator state always
gives the same result. Images are resampled bilinearly, labels by nearest neighbor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.example import Example
from fcn_train.data.jitter import Jitter
from fcn_train.data.normalization import MEAN_COLOR

Transform = Callable[[Example, np.random.Generator], Example]


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


def _mirrored(values: np.ndarray) -> np.ndarray:
    return values[:, ::-1]


def _window(size: int, crop: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Along one axis: start in the crop, start in the image, and length of their intersection."""
    if size >= crop:
        return 0, int(rng.integers(size - crop + 1)), crop
    return int(rng.integers(crop - size + 1)), 0, size
