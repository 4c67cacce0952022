"""Where images, classes, rows and columns lie among the dimensions of a tensor, and which of them
it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

__all__ = ["CLASSES", "COLUMNS", "IMAGES", "ROWS", "Layout", "slice_of", "slice_within"]

IMAGES, CLASSES, ROWS, COLUMNS = range(4)
"""The axes of a map."""


@dataclass(frozen=True)
class Layout:
    """Which axes of a map (N, C, H, W) each dimension of a tensor runs over, and which part of
    each axis it has.

    ``[(0, 2, 3), (1,)]`` are the dimensions after ``permute(0, 2, 3, 1).reshape(-1, C)``: pixels by
    classes. Axes of size 1 are left out, so that a dimension of size 1 is ``()``.
    """

    sizes: tuple[int, ...]
    """How many images, classes, rows and columns the tensor has."""
    dims: tuple[tuple[int, ...], ...]
    ranges: tuple[range, ...]
    """Which images, classes, rows and columns these are. Only those of classes may have steps."""
    totals: tuple[int, ...]
    """How many the whole map has."""

    @classmethod
    def of_map(cls, shape: Sequence[int]) -> Layout:
        return _whole_map(tuple(shape))

    @property
    def class_dim(self) -> int | None:
        """The dimension that runs over the classes, and over nothing else."""
        return self.dims.index((CLASSES,)) if (CLASSES,) in self.dims else None

    @property
    def is_map(self) -> bool:
        """Whether the dimensions are those of a map, which may be a part of the whole one."""
        return self.dims == Layout.of_map(self.sizes).dims

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole map."""
        return self.sizes == self.totals and self.is_map

    @property
    def is_crop(self) -> bool:
        """Whether it has only some rows or columns."""
        return self.sizes != self.totals and self.sizes[2:] != self.totals[2:]

    @property
    def share(self) -> float:
        """The share of the whole map that it has."""
        return math.prod(self.sizes) / math.prod(self.totals)

    def part(self, map: Tensor) -> Tensor:
        """Its images and classes of a map that has all, or of coarse scores. A view, or the map."""
        if self.sizes[:2] == self.totals[:2]:
            return map
        return map[slice_of(self.ranges[IMAGES]), slice_of(self.ranges[CLASSES])]

    def cropped(self, map: Tensor) -> Tensor:
        """Its rows and columns of a map (..., H, W) that has all. A view."""
        return map[..., slice_of(self.ranges[ROWS]), slice_of(self.ranges[COLUMNS])]

    def crop_of(self, map: Tensor) -> Tensor:
        """The same of a new map, of which nothing else is kept."""
        return self.cropped(map).clone() if self.is_crop else map

    def uncropped(self, map: Tensor, fill: int) -> Tensor:
        """The inverse: a map (..., H, W) of all rows and columns, ``fill`` beyond those of
        ``map``."""
        if not self.is_crop:
            return map
        whole = map.new_full((*map.shape[:-2], *self.totals[2:]), fill)
        self.cropped(whole).copy_(map)
        return whole

    def of(self, axis: int, taken: range) -> Layout:
        """The same layout for other images, classes, rows or columns."""
        dims = self.dims
        if len(taken) == 1:
            dims = tuple(tuple(other for other in dim if other != axis) for dim in dims)
        return Layout(
            (*self.sizes[:axis], len(taken), *self.sizes[axis + 1 :]),
            dims,
            (*self.ranges[:axis], taken, *self.ranges[axis + 1 :]),
            self.totals,
        )

    def uncropped_map(self) -> Layout:
        """The layout of a map of the same images and classes, with all rows and columns."""
        sizes = (*self.sizes[:2], *self.totals[2:])
        ranges = (*self.ranges[:2], *map(range, self.totals[2:]))
        return Layout(sizes, Layout.of_map(sizes).dims, ranges, self.totals)

    def _pixel_axes(self) -> list[int]:
        """The axes of a label map (N, H, W) in the order in which the dimensions have them."""
        kept = [axis for dim in self.dims for axis in dim if axis != CLASSES]
        lost = [axis for axis in (IMAGES, ROWS, COLUMNS) if axis not in kept]
        return [max(axis - 1, 0) for axis in lost + kept]

    def from_map(self, map: Tensor, shape: Sequence[int]) -> Tensor:
        """A label map (N, H, W) as the contiguous tensor of ``shape`` that an argmax over the
        classes, for instance, returns."""
        return map.permute(self._pixel_axes()).reshape(shape).contiguous()

    def to_map(self, pixels: Tensor) -> Tensor:
        """The inverse: labels of every pixel as a map (N, H, W)."""
        order = self._pixel_axes()
        sizes = [self.sizes[0], *self.sizes[2:]]
        inverse = [order.index(axis) for axis in range(3)]
        return pixels.reshape([sizes[axis] for axis in order]).permute(inverse)

    def _all_axes(self) -> list[int]:
        kept = [axis for dim in self.dims for axis in dim]
        return [axis for axis in range(4) if axis not in kept] + kept

    def from_full_map(self, map: Tensor, shape: Sequence[int]) -> Tensor:
        """A map (N, C, H, W) rearranged to this layout."""
        return map.permute(self._all_axes()).reshape(shape)

    def to_full_map(self, elements: Tensor) -> Tensor:
        """The inverse. A view."""
        order = self._all_axes()
        inverse = [order.index(axis) for axis in range(4)]
        return elements.reshape([self.sizes[axis] for axis in order]).permute(inverse)


@lru_cache(maxsize=256)
def _whole_map(sizes: tuple[int, ...]) -> Layout:
    dims = tuple((axis,) if size != 1 else () for axis, size in enumerate(sizes))
    return Layout(sizes, dims, tuple(map(range, sizes)), sizes)


def slice_of(taken: range) -> slice:
    return slice(taken.start, taken.stop, taken.step)


def slice_within(taken: range, whole: range) -> slice:
    """Where the numbers of one range are among those of another, which has them all."""
    step = max(taken.step // whole.step, 1)
    return slice(whole.index(taken[0]), whole.index(taken[-1]) + 1, step)
