"""Batches that are taken apart into images or groups of images, and their gradients joined
again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch

from fcn_ext.deferred._gradient import DeferredGradient, Gradient
from fcn_ext.deferred._layout import IMAGES, Layout
from fcn_ext.deferred._snapshot import Memory
from fcn_ext.deferred._tensor import Deferred, carry, handles

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

    def layout(of_piece: Layout) -> list[Any]:
        dims = list(of_piece.dims)
        dims.insert(dim % (len(dims) + 1), ())
        return dims

    return _joined(func, grads, dim, layout)


@handles(aten.cat.default)
def _cat(func: Any, grads: Sequence[Any], dim: int = 0) -> Any:
    """The backward of ``split``."""

    def layout(of_piece: Layout) -> list[Any]:
        dims = list(of_piece.dims)
        if dims[dim] == (IMAGES,):
            dims[dim] = ()
        return dims

    return _joined(func, grads, dim, layout)


def _joined(
    func: Any, grads: Sequence[Any], dim: int, dims_of: Callable[[Layout], list[Any]]
) -> Any:
    """The gradients of consecutive images, joined along ``dim``; ``dims_of`` gives the result's
    dimensions, but for the images, from the layout of a piece."""
    if not all(isinstance(grad, DeferredGradient) for grad in grads):
        return NotImplemented
    recipes = [grad.recipe for grad in grads]
    first, images = recipes[0], [recipe.layout.images for recipe in recipes]
    crop = first.layout.rows, first.layout.columns
    dims = dims_of(first.layout)
    if any(
        not recipe.is_pure
        or recipe.rest is not None
        or recipe.origin is not first.origin
        or recipe.kind != first.kind
        or recipe.twin.dtype != first.twin.dtype
        or recipe.device != first.device
        or dims_of(recipe.layout) != dims
        or (recipe.layout.rows, recipe.layout.columns) != crop
        for recipe in recipes
    ) or any(before.stop != after.start for before, after in pairwise(images)):
        return NotImplemented
    twin = func([recipe.twin for recipe in recipes], dim)
    count = images[-1].stop - images[0].start
    if dims[dim] != () or twin.shape[dim] != count:
        return NotImplemented
    dims[dim] = (IMAGES,) if count > 1 else ()
    whole = range(images[0].start, images[-1].stop)
    layout = replace(first.layout.of(IMAGES, whole), dims=tuple(dims))

    computes = [recipe.compute for recipe in recipes]
    memory = Memory(lambda: func([compute() for compute in computes], dim), layout, first.kind)
    whole_gradient = Gradient(memory, (), layout, first.kind, twin, first.device)
    parts = tuple(part for recipe in recipes for part in recipe.parts)
    return DeferredGradient(whole_gradient.by(parts, first.origin))
