"""Operators that move or copy the elements of a deferred tensor, and the way back through them.

Each function is given the layout of a tensor and the shape of the result, and returns the result's
layout, or None if it is not the layout of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout

__all__ = ["CARRIED", "SHARED", "UNDONE"]

aten = torch.ops.aten


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


def _expanded(layout: Layout, shape: Sequence[int], *_: Any) -> Layout | None:
    if math.prod(shape) != math.prod(layout.sizes):
        return None
    added = len(shape) - len(layout.dims)
    return replace(layout, dims=((),) * added + layout.dims)


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
    if shape[dim] == 0:
        return None
    if shape[dim] == math.prod(layout.sizes[axis] for axis in axes):
        return layout
    if len(axes) > 1 or (step != 1 and axes != (CLASSES,)):
        return None
    # A single row or column could not be told from an image or a class on the way back.
    if shape[dim] == 1 and axes[0] not in (IMAGES, CLASSES):
        return None
    return layout.of(axes[0], layout.ranges[axes[0]][start:end:step])


def _selected(layout: Layout, shape: Sequence[int], dim: int, index: int) -> Layout | None:
    dims = list(layout.dims)
    axes = dims.pop(dim)
    chosen = replace(layout, dims=tuple(dims))
    if not axes:
        return chosen
    if axes not in ((IMAGES,), (CLASSES,)):
        return None
    taken = layout.ranges[axes[0]]
    index %= len(taken)
    return chosen.of(axes[0], taken[index : index + 1])


def _restored(
    layout: Layout, dims: tuple[Any, ...], dim: int, start: int, count: int, step: int = 1
) -> Layout | None:
    """The layout of ``count`` images, classes, rows or columns along ``dim``, of which those of
    ``layout`` begin at ``start`` and are ``step`` apart."""
    if len(dims[dim]) > 1:
        return None
    others = [axis for place, axes in enumerate(dims) if place != dim for axis in axes]
    for axis in dims[dim] or (IMAGES, CLASSES):
        taken = layout.ranges[axis]
        stride, between = divmod(taken.step, step)
        first = taken.start - start * stride
        last = first + (count - 1) * stride
        if axis not in others and not between and first >= 0 and last < layout.totals[axis]:
            of_dim = (axis,) if count > 1 else ()
            whole = replace(layout, dims=(*dims[:dim], of_dim, *dims[dim + 1 :]))
            return whole.of(axis, range(first, last + 1, stride))
    return None


def _slice_undone(
    layout: Layout,
    shape: Sequence[int],
    sizes: Sequence[int],
    dim: int,
    start: int,
    end: int,
    step: int,
) -> Layout | None:
    dim %= len(sizes)
    if shape[dim] == sizes[dim]:
        return layout
    begin = slice(start, end).indices(sizes[dim])[0]
    return _restored(layout, layout.dims, dim, begin, sizes[dim], step)


def _select_undone(
    layout: Layout, shape: Sequence[int], sizes: Sequence[int], dim: int, index: int
) -> Layout | None:
    dim %= len(sizes)
    dims = (*layout.dims[:dim], (), *layout.dims[dim:])
    if sizes[dim] == 1:
        return replace(layout, dims=dims)
    return _restored(layout, dims, dim, index % sizes[dim], sizes[dim])


_VIEWS: dict[Any, Callable[..., Layout | None]] = {
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.expand.default: _expanded,
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
"""The backward operators of views of some images, classes, rows or columns."""
