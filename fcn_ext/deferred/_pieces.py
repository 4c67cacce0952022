"""Maps that are taken apart into images or classes, or groups of them, and their gradients joined
again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._gradient import (
    DeferredGradient,
    Gradient,
    computing,
    is_kept,
    part_of,
    twin_of,
)
from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout
from fcn_ext.deferred._memory import Memory
from fcn_ext.deferred._tensor import Deferred, carry, handles
from fcn_ext.ops._interpolate import _interpolate_backward

aten = torch.ops.aten


@handles(aten.unbind.int)
def _unbind(func: Any, self: Any, dim: int = 0) -> Any:
    if not isinstance(self, Deferred) or not -self.dim() <= dim < self.dim():
        return NotImplemented
    places = range(self.shape[dim])
    return _all(carry(aten.select.int, self, dim, place) for place in places)


@handles(aten.split.Tensor)
def _split(func: Any, self: Any, size: int, dim: int = 0) -> Any:
    if not isinstance(self, Deferred) or not -self.dim() <= dim < self.dim() or size < 1:
        return NotImplemented
    count = self.shape[dim]
    return _slices(self, dim, [*range(0, count, size), count])


@handles(aten.split_with_sizes.default)
def _split_with_sizes(func: Any, self: Any, sizes: Sequence[int], dim: int = 0) -> Any:
    if not isinstance(self, Deferred) or not -self.dim() <= dim < self.dim():
        return NotImplemented
    borders = [0, *accumulate(sizes)]
    if min(sizes, default=0) < 1 or borders[-1] != self.shape[dim]:
        return NotImplemented
    return _slices(self, dim, borders)


def _slices(self: Any, dim: int, borders: list[int]) -> Any:
    return _all(carry(aten.slice.Tensor, self, dim, *pair) for pair in pairwise(borders))


def _all(pieces: Any) -> Any:
    """The pieces in a list; NotImplemented if one of them is not part of a map."""
    found = []
    for piece in pieces:
        if piece is NotImplemented:
            return NotImplemented
        found.append(piece)
    return found or NotImplemented


@handles(aten.stack.default)
def _stack(func: Any, grads: Sequence[Any], dim: int = 0) -> Any:
    """The backward of ``unbind``."""

    def dims_of(of_piece: Layout) -> list[Any]:
        dims = list(of_piece.dims)
        dims.insert(dim % (len(dims) + 1), ())
        return dims

    return _joined(func, grads, dim, dims_of)


@handles(aten.cat.default)
def _cat(func: Any, grads: Sequence[Any], dim: int = 0) -> Any:
    """The backward of ``split``."""

    def dims_of(of_piece: Layout) -> list[Any]:
        dims = list(of_piece.dims)
        if dims[dim] in ((IMAGES,), (CLASSES,)):
            dims[dim] = ()
        return dims

    return _joined(func, grads, dim, dims_of)


def _joined(
    func: Any, grads: Sequence[Any], dim: int, dims_of: Callable[[Layout], list[Any]]
) -> Any:
    """The gradients of consecutive images or classes, joined along ``dim``; ``dims_of`` gives the
    result's dimensions, with ``()`` for ``dim``, from the layout of a piece.

    Some may be ordinary: that of a piece whose loss torch has computed, or zeros for an unused one.
    """
    known = [grad.recipe for grad in grads if isinstance(grad, DeferredGradient)]
    if not known or not all(_fits(grad, known[0]) for grad in grads):
        return NotImplemented
    first, dims = known[0], dims_of(known[0].layout)
    twin = func([twin_of(grad) for grad in grads], dim)
    dim %= twin.dim()
    stacked = grads[0].dim() < twin.dim()
    counts = [1 if stacked else grad.shape[dim] for grad in grads]
    found = _whole(grads, counts, dims)
    if found is None or any(dims_of(recipe.layout) != dims for recipe in known) or dims[dim] != ():
        return NotImplemented
    axis, whole = found

    parts = [part for recipe in known for part in recipe.parts]
    for grad, count, place in zip(grads, counts, accumulate(counts, initial=0), strict=False):
        rest = grad.recipe.rest if isinstance(grad, DeferredGradient) else grad
        if rest is not None:
            of_piece = list(dims)
            of_piece[dim : dim + 1] = [] if stacked else [(axis,) if count > 1 else ()]
            layout = replace(first.layout, dims=tuple(of_piece))
            layout = layout.of(axis, whole[place : place + count])
            coarse = _coarse(rest, layout, first)
            if coarse is None:
                return NotImplemented
            parts.append(part_of(layout, coarse))
    dims[dim] = (axis,) if len(whole) > 1 else ()
    layout = replace(first.layout, dims=tuple(dims)).of(axis, whole)

    computes = [computing(grad) for grad in grads]
    memory = Memory(lambda: func([compute() for compute in computes], dim), layout, first.kind)
    gradient = Gradient(memory, (), layout, first.kind, twin, first.device)
    return DeferredGradient(gradient.by(tuple(parts), first.origin))


def _fits(grad: Any, first: Gradient) -> bool:
    """Whether a gradient may be joined with one of ours."""
    if not isinstance(grad, DeferredGradient):
        is_ours = is_kept(grad) and first.kind == "logits"
        return is_ours and grad.dtype == first.twin.dtype and grad.device == first.device
    recipe = grad.recipe
    return (
        recipe.is_pure
        and (recipe.rest is None or recipe.kind == "logits")
        and recipe.origin is first.origin
        and recipe.kind == first.kind
        and recipe.twin.dtype == first.twin.dtype
        and recipe.device == first.device
    )


def _whole(grads: Sequence[Any], counts: list[int], dims: list[Any]) -> tuple[int, range] | None:
    """The axis, none of ``dims``, of which the gradients have consecutive parts, so many each, and
    these parts as one."""
    layouts = [grad.recipe.layout if isinstance(grad, DeferredGradient) else None for grad in grads]
    for axis in (IMAGES, CLASSES):
        wholes, alike, place = set(), set(), 0
        for layout, count in zip(layouts, counts, strict=True):
            if layout is not None:
                part = layout.ranges[axis]
                start = part.start - place * part.step
                wholes.add(range(start, start + sum(counts) * part.step, part.step))
                alike.add((_without(layout.ranges, axis), len(part) == count))
                total = layout.totals[axis]
            place += count
        whole = wholes.pop()
        is_within = whole.start >= 0 and whole[-1] < total
        if not wholes and len(alike) == 1 and alike.pop()[1] and is_within and (axis,) not in dims:
            return axis, whole
    return None


def _without(ranges: tuple[range, ...], axis: int) -> tuple[range, ...]:
    return (*ranges[:axis], *ranges[axis + 1 :])


def _coarse(grad: Tensor, layout: Layout, first: Gradient) -> Tensor | None:
    """The gradient of the scores, of an ordinary one; None if it is not finite, as torch also
    counts what has a weight of zero."""
    assert first.origin is not None
    size = first.parts[0][2].shape[2:]
    map = layout.uncropped(layout.to_full_map(grad), 0)
    coarse: Tensor = _interpolate_backward(map, *size, first.origin.align_corners)
    return coarse if not coarse.is_cpu or math.isfinite(coarse.sum().item()) else None
