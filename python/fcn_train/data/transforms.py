"""Augmentation and conversion to tensors.

A transform is a pure function of an `Example` and a generator: the same generator state gives the
same result, whatever ran before. Images are resampled bilinearly, labels by nearest neighbor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.dataset import Example

Transform = Callable[[Example, np.random.Generator], Example]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalization:
    """How 8-bit RGB becomes network input: `(value - mean) / std`, then the channel order.

    mean, std: R, G, B in units of 0..255.
    bgr: put the channels in the order B, G, R after that.
    """

    mean: Triple
    std: Triple = (1.0, 1.0, 1.0)
    bgr: bool = False


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of ImageNet, as torchvision's weights expect."""

CAFFE = Normalization((122.67892, 116.66877, 104.00699), bgr=True)
"""BGR minus the VGG16 mean, as Caffe's weights expect (the reference repository's VOC layers)."""

MEAN_COLOR = (123, 117, 104)
"""Padding of images: the rounded mean of both normalizations, so about zero after them."""


@dataclass(frozen=True)
class Mirror:
    """Left and right exchanged with the given probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, got {self.probability}")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        return Example(example.image[:, ::-1], example.label[:, ::-1])


@dataclass(frozen=True)
class RandomScale:
    """Both sides resized by one factor, uniform in [low, high], to at least one pixel."""

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
    """A (height, width) window at a uniformly random place.

    An image smaller than the window lies at a random place inside it; the rest has the color
    `fill` and the label `IGNORE_INDEX`.
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
        image = np.empty((self.height, self.width, 3), dtype=np.uint8)
        image[:] = self.fill
        label = np.full((self.height, self.width), IGNORE_INDEX, dtype=np.uint8)
        target = np.s_[top : top + rows, left : left + columns]
        source = np.s_[source_rows : source_rows + rows, source_columns : source_columns + columns]
        image[target] = example.image[source]
        label[target] = example.label[source]
        return Example(image, label)


@dataclass(frozen=True)
class Compose:
    """Transforms one after the other, drawing from one generator; none at all is the identity."""

    transforms: tuple[Transform, ...] = ()

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        for transform in self.transforms:
            example = transform(example, rng)
        return example


def augmentation(
    *, mirror: bool = True, scale: tuple[float, float] = (1.0, 1.0), crop: int = 0
) -> Compose:
    """Mirror, then random scale, then a square random crop; `crop` 0 keeps the native size.

    Raises:
        ValueError: if `scale` is not 0 < low <= high or `crop` is negative.
    """
    transforms: list[Transform] = []
    if mirror:
        transforms.append(Mirror())
    if scale != (1.0, 1.0):
        transforms.append(RandomScale(*scale))
    if crop:
        transforms.append(RandomCrop(crop, crop))
    return Compose(tuple(transforms))


def resize(example: Example, height: int, width: int) -> Example:
    """The example at another size: image bilinear (area-weighted when shrinking), label nearest."""
    if example.label.shape == (height, width):
        return example
    image = Image.fromarray(np.ascontiguousarray(example.image))
    label = Image.fromarray(np.ascontiguousarray(example.label))
    return Example(
        np.array(image.resize((width, height), Image.Resampling.BILINEAR)),
        np.array(label.resize((width, height), Image.Resampling.NEAREST)),
    )


def image_to_tensor(image: np.ndarray, normalization: Normalization) -> Tensor:
    """(H, W, 3) uint8 RGB to a normalized (3, H, W) float32 tensor."""
    values = image.astype(np.float32)
    values -= np.asarray(normalization.mean, dtype=np.float32)
    values /= np.asarray(normalization.std, dtype=np.float32)
    if normalization.bgr:
        values = values[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def to_tensors(example: Example, normalization: Normalization) -> tuple[Tensor, Tensor]:
    """A (3, H, W) float32 image and an (H, W) uint8 label."""
    label = torch.from_numpy(example.label.copy())
    return image_to_tensor(example.image, normalization), label


class Batch(NamedTuple):
    """Examples stacked for the network.

    images: (N, 3, H, W) float32, normalized; zero (the mean color) where padded.
    targets: (N, H, W) uint8; `IGNORE_INDEX` where void or padded.
    ids: the N names.
    sizes: the N (height, width) before padding; image i fills the top left corner.
    """

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same images, targets, names and sizes."""
        if not isinstance(other, Batch):
            return NotImplemented
        tensors = ((self.images, other.images), (self.targets, other.targets))
        same = all(torch.equal(mine, theirs) for mine, theirs in tensors)
        return same and (self.ids, self.sizes) == (other.ids, other.sizes)

    def __ne__(self, other: object) -> bool:
        return not self == other


def collate(tensors: Sequence[tuple[Tensor, Tensor]], ids: Sequence[str]) -> Batch:
    """Stack examples; smaller ones are padded at the right and bottom to the largest.

    Args:
        tensors: pairs of image (3, H, W) and label (H, W), at least one.
        ids: as many names.
    """
    sizes = tuple((label.shape[0], label.shape[1]) for _, label in tensors)
    if len(set(sizes)) == 1:
        images = torch.stack([image for image, _ in tensors])
        targets = torch.stack([label for _, label in tensors])
        return Batch(images, targets, tuple(ids), sizes)
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    images = torch.zeros(len(tensors), 3, height, width)
    targets = torch.full((len(tensors), height, width), IGNORE_INDEX, dtype=torch.uint8)
    for index, ((image, label), (rows, columns)) in enumerate(zip(tensors, sizes, strict=True)):
        images[index, :, :rows, :columns] = image
        targets[index, :rows, :columns] = label
    return Batch(images, targets, tuple(ids), sizes)


def _window(size: int, crop: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Along one axis: start in the crop, start in the image, and length of what both share."""
    if size >= crop:
        return 0, int(rng.integers(size - crop + 1)), crop
    return int(rng.integers(crop - size + 1)), 0, size
