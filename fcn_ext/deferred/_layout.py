"""Where images, classes, rows and columns lie among the dimensions of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["CARRIED", "RANGES", "SHARED", "UNDONE", "Layout", "slice_of"]

IMAGES, CLASSES, ROWS, COLUMNS = range(4)

aten = torch.ops.aten


@dataclass(frozen=True)
class Layout:
    """Which axes of a map (N, C, H, W) each dimension of a tensor runs over.

    ``[(0, 2, 3), (1,)]`` is the layout after ``permute(0, 2, 3, 1).reshape(-1, C)``: pixels by
    classes. Axes of size 1 are left out, so that a dimension of size 1 is ``()``.
    """

    sizes: tuple[int, ...]
    dims: tuple[tuple[int, ...], ...]
    images: range
    """Which images of the batch the tensor has."""
    rows: range
    """Which rows of the full map."""
    columns: range
    """Which of its columns."""

    @classmethod
    def of_map(cls, shape: Sequence[int]) -> Layout:
        dims = tuple((axis,) if size != 1 else () for axis, size in enumerate(shape))
        images, _, rows, columns = map(range, shape)
        return cls(tuple(shape), dims, images, rows, columns)

    @property
    def classes(self) -> int | None:
        """The dimension that runs over the classes, and over nothing else."""
        return self.dims.index((CLASSES,)) if (CLASSES,) in self.dims else None

    @property
    def is_map(self) -> bool:
        """Whether the dimensions are those of a map, which may be cropped."""
        return self.dims == Layout.of_map(self.sizes).dims

    def is_crop(self, size: Sequence[int]) -> bool:
        """Whether it has only some rows or columns of a map of ``size``."""
        return (len(self.rows), len(self.columns)) != tuple(size)

    def cropped(self, map: Tensor) -> Tensor:
        """Its rows and columns of a map (..., H, W) that has all. A view."""
        return map[..., slice_of(self.rows), slice_of(self.columns)]

    def crop_of(self, map: Tensor, size: tuple[int, int]) -> Tensor:
        """The same of a new map, of which nothing else is kept."""
        return self.cropped(map).clone() if self.is_crop(size) else map

    def uncropped(self, map: Tensor, size: tuple[int, int], fill: int) -> Tensor:
        """The inverse: a map (..., *size) with ``fill`` beyond the rows and columns of ``map``."""
        if not self.is_crop(size):
            return map
        whole = map.new_full((*map.shape[:-2], *size), fill)
        self.cropped(whole).copy_(map)
        return whole

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

    def of(self, axis: int, taken: range) -> Layout:
        """The same layout for other images, rows or columns."""
        sizes, dims = list(self.sizes), self.dims
        sizes[axis] = len(taken)
        if len(taken) == 1:
            dims = tuple(tuple(other for other in dim if other != axis) for dim in dims)
        ranges: dict[str, Any] = {RANGES[axis]: taken}
        return replace(self, sizes=tuple(sizes), dims=dims, **ranges)

    def range_of(self, axis: int) -> range:
        taken: range = getattr(self, RANGES[axis])
        return taken


RANGES = {IMAGES: "images", ROWS: "rows", COLUMNS: "columns"}
"""The axes of which a tensor may have a part."""


def slice_of(taken: range) -> slice:
    return slice(taken.start, taken.stop)


def _same(layout: Layout, shape: Sequence[int], *_: Any, **__: Any) -> Layout:
    return layout


def _permuted(layout: Layout, shape: Sequence[int], order: Sequence[int]) -> Layout:
    return replace(layout, dims=tuple(layout.dims[dim] for dim in order))


def _transposed(layout: Layout, shape: Sequence[int], first: int = 0, second: int = 1) -> Layout:
    dims = list(layout.dims)
    if dims:
        dims[first], dims[second] = dims[second], dims[first]
    return replace(layout, dims=tuple(dims))


def _unsqueezed(layout: Layout, shape: Sequence[int], dim: int) -> Layout:
    dims = list(layout.dims)
    dims.insert(dim % len(shape), ())
    return replace(layout, dims=tuple(dims))


def _squeezed(
    layout: Layout, shape: Sequence[int], dims: int | Sequence[int] | None = None
) -> Layout:
    every = range(len(layout.dims))
    chosen = every if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {dim % len(layout.dims) for dim in chosen if layout.dims[dim] == ()}
    return replace(
        layout, dims=tuple(axes for dim, axes in enumerate(layout.dims) if dim not in gone)
    )


def _viewed(layout: Layout, shape: Sequence[int], *_: Any) -> Layout | None:
    axes = [axis for dim in layout.dims for axis in dim]
    dims = []
    for size in shape:
        covered, dim = 1, []
        while covered < size and axes:
            dim.append(axes.pop(0))
            covered *= layout.sizes[dim[-1]]
        if covered != size:
            return None
        dims.append(tuple(dim))
    return None if axes else replace(layout, dims=tuple(dims))


def _sliced(
    layout: Layout,
    shape: Sequence[int],
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Layout | None:
    axes = layout.dims[dim]
    if shape[dim] == 0 or step != 1:
        return None
    covered = 1
    for axis in axes:
        covered *= layout.sizes[axis]
    if shape[dim] == covered:
        return layout
    # A single row or column could not be told from an image on the way back.
    if len(axes) > 1 or axes[0] not in RANGES or (axes[0] != IMAGES and shape[dim] == 1):
        return None
    return layout.of(axes[0], layout.range_of(axes[0])[start:end])


def _selected(layout: Layout, shape: Sequence[int], dim: int, index: int) -> Layout | None:
    axes, dims = layout.dims[dim], list(layout.dims)
    if axes not in ((), (IMAGES,)):
        return None
    dims[dim] = ()
    del dims[dim]
    chosen = replace(layout, dims=tuple(dims))
    if axes == ():
        return chosen
    index %= len(layout.images)
    return chosen.of(IMAGES, layout.images[index : index + 1])


def _restored(layout: Layout, dims: list[Any], dim: int, start: int, count: int) -> Layout | None:
    """The layout of ``count`` images, rows or columns, of which those of ``layout`` begin at
    ``start``."""
    axes = dims[dim] or (IMAGES,)
    if len(axes) > 1 or axes[0] not in RANGES:
        return None
    taken = layout.range_of(axes[0])
    first = taken.start - start
    if first < 0 or len(taken) + start > count:
        return None
    if count > 1:
        dims[dim] = axes
    whole = layout.of(axes[0], range(first, first + count))
    return replace(whole, dims=tuple(dims))


def _slice_undone(
    layout: Layout,
    shape: Sequence[int],
    sizes: Sequence[int],
    dim: int,
    start: int,
    end: int,
    step: int,
) -> Layout | None:
    if step != 1:
        return None
    begin = slice(start, end).indices(sizes[dim])[0]
    return _restored(layout, list(layout.dims), dim, begin, sizes[dim])


def _select_undone(
    layout: Layout, shape: Sequence[int], sizes: Sequence[int], dim: int, index: int
) -> Layout | None:
    dim %= len(sizes)
    dims: list[Any] = list(layout.dims)
    dims.insert(dim, ())
    return _restored(layout, dims, dim, index % sizes[dim], sizes[dim])


# Operators that move or copy the elements of a tensor. Each function is given the shape of the
# result and returns its layout, or None if it is not the layout of a map.
_VIEWS: dict[Any, Callable[..., Layout | None]] = {
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.permute.default: _permuted,
    aten.select.int: _selected,
    aten.slice.Tensor: _sliced,
    aten.squeeze.default: _squeezed,
    aten.squeeze.dim: _squeezed,
    aten.squeeze.dims: _squeezed,
    aten.t.default: _transposed,
    aten.transpose.int: _transposed,
    aten.unsqueeze.default: _unsqueezed,
    aten.view.default: _viewed,
    aten._unsafe_view.default: _viewed,
}
_COPIES: dict[Any, Callable[..., Layout | None]] = {
    aten._to_copy.default: _same,
    aten.clone.default: _same,
}
CARRIED = _VIEWS | _COPIES
SHARED = frozenset(_VIEWS)
"""Those whose result is a view of the same memory."""
UNDONE: dict[Any, Callable[..., Layout | None]] = {
    aten.slice_backward.default: _slice_undone,
    aten.select_backward.default: _select_undone,
}
"""The backward operators of views of some images, rows or columns."""
