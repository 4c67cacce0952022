"""The maps that kernels compute: their parameters for entry points, and their values."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Resize


@dataclass(frozen=True)
class Map:
    """An upsampling or interpolation, and the sizes that it maps between."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    stride: int = 0
    kernel_size: int = 0
    offset: tuple[int, int] = (0, 0)
    align_corners: bool = False
    uncropped_size: tuple[int, int] | None = None
    """Of an interpolation of which the output is the window at ``offset``."""

    @property
    def uncropped(self) -> tuple[int, int]:
        return self.output_size if self.uncropped_size is None else self.uncropped_size

    def geometry(self, batch: int, channels: int) -> tuple[int, ...]:
        """The ``Geometry`` of entry_points/arguments.h."""
        kind = 0 if self.stride else 1 + self.align_corners
        sizes = batch, channels, *self.input_size, *self.output_size
        return *sizes, kind, self.stride, self.kernel_size, *self.offset, *self.uncropped

    def reference(self, input: Tensor) -> Tensor:
        """The result of the package's plain PyTorch implementation."""
        if self.stride:
            return reference.upsample(
                input,
                self.stride,
                kernel_size=self.kernel_size,
                offset=self.offset,
                output_size=self.output_size,
            )
        geometry = Resize(self.align_corners, self.uncropped, self.offset)
        return reference.at_full_size(input, self.output_size, geometry)

    def __call__(self, input: Tensor) -> Tensor:
        """The map as kernels form it, product by product, in the precision of ``input``: nodes
        without weight are not read, so that no infinity there becomes NaN."""
        columns = _weighted(input, self._taps(1, input.dtype), 3)
        return _weighted(columns, self._taps(0, input.dtype), 2)

    def _taps(self, axis: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The lower node of every output, its weight and the next node's; zero where not read."""
        nodes, outputs = self.input_size[axis], self.uncropped[axis]
        o = torch.arange(self.output_size[axis]) + (0 if self.stride else self.offset[axis])
        if self.stride:
            half_steps = 2 * self.stride + 1 - self.kernel_size
            steps = 2 * o + 2 * self.offset[axis] + half_steps - 2 * self.stride
            denominator = 2 * self.stride
        elif self.align_corners:
            steps, denominator = (nodes - 1) * o, max(outputs - 1, 1)
        else:
            steps, denominator = 2 * nodes * o + nodes - outputs, 2 * outputs
        if not self.stride:
            steps = steps.clamp(0, (nodes - 1) * denominator)
        node = steps.div(denominator, rounding_mode="floor")
        rest = steps - node * denominator
        lower = (denominator - rest).to(dtype) / torch.tensor(denominator, dtype=dtype)
        upper = rest.to(dtype) / torch.tensor(denominator, dtype=dtype)
        return node, lower.where(node >= 0, 0), upper.where(node + 1 < nodes, 0)


def _weighted(input: Tensor, taps: tuple[Tensor, Tensor, Tensor], dim: int) -> Tensor:
    """lower * node + upper * next node along ``dim``."""
    node, lower, upper = taps
    shape = [1] * input.dim()
    shape[dim] = -1
    sums = []
    for index, weight in ((node, lower), (node + 1, upper)):
        weight = weight.reshape(shape)
        read = input.index_select(dim, index.clamp(0, input.shape[dim] - 1))
        sums.append(weight * read.where(weight != 0, 0))
    return sums[0] + sums[1]


def upsampling(
    size: tuple[int, int],
    stride: int,
    *,
    odd: bool = False,
    crop: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Map:
    """A whole upsampling without `crop` pixels at its top, bottom, left and right."""
    kernel_size = 1 if stride == 1 else 2 * stride - odd
    top, bottom, left, right = crop
    height, width = ((n - 1) * stride + kernel_size for n in size)
    output = height - top - bottom, width - left - right
    return Map(size, output, stride, kernel_size, (top, left))


def window(
    size: tuple[int, int],
    uncropped: tuple[int, int],
    offset: tuple[int, int],
    output: tuple[int, int],
    *,
    align_corners: bool = False,
) -> Map:
    """A window of an interpolation."""
    return Map(size, output, 0, 0, offset, align_corners, uncropped)


def windows(rng: random.Random, map: Map) -> list[Map]:
    """An interpolation, and random windows of it: any, and one that ends with it."""
    height, width = map.output_size
    top, left = rng.randrange(height), rng.randrange(width)
    last = height - top, width - left
    some = rng.randint(1, last[0]), rng.randint(1, last[1])
    aligned = map.align_corners
    return [
        map,
        *(
            window(map.input_size, map.output_size, (top, left), output, align_corners=aligned)
            for output in (some, last)
        ),
    ]


def scaling(size: tuple[int, int], stride: int) -> Map:
    return Map(size, (size[0] * stride, size[1] * stride))


def random_upsampling(
    rng: random.Random, stride: int, *, odd: bool = False, most: tuple[int, int]
) -> Map:
    """A random upsampling, half of the time only a window of it."""
    size = rng.randint(1, most[0]), rng.randint(1, most[1])
    whole = upsampling(size, stride, odd=odd)
    if rng.random() < 0.5:
        return whole
    height, width = whole.output_size
    top, left = rng.randrange(height), rng.randrange(width)
    window = rng.randint(1, height - top), rng.randint(1, width - left)
    return replace(whole, output_size=window, offset=(top, left))
