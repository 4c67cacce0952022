"""Gradients of deferred logits, held as gradients of the coarse scores.

Between a loss and the scores, torch's graph has its usual nodes. What they pass on is a tensor of
the full shape that holds the gradient of the scores; the full gradient is computed only if
something reads it, such as a hook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._layout import UNDONE, Layout
from fcn_ext.deferred._recipe import Recipe
from fcn_ext.deferred._snapshot import Memory, Step, laid_out, step_of
from fcn_ext.deferred._tensor import Deferred, DeferredLogits, handles, ordinary

__all__ = ["DeferredGradient", "gradient_of"]

aten = torch.ops.aten

Parts = tuple[tuple[range, Tensor], ...]
"""Gradients of scores, each for some images of the batch."""


class DeferredGradient(Deferred):
    """The gradient, at full size, of something taken from coarse scores."""

    recipe: Gradient


class Gradient(Recipe):
    """The recipe of a gradient with respect to ``kind``, "logits" or "log_softmax"."""

    parts: Parts
    origin: object
    """The origin of the snapshot whose scores the parts are gradients of."""

    def by(self, parts: Parts, origin: object) -> Gradient:
        self.parts, self.origin = parts, origin
        return self

    def step(self, step: Step, twin: Tensor, layout: Layout, **options: Any) -> Gradient | None:
        following = super().step(step, twin, layout, **options)
        if following is None:
            return None
        assert isinstance(following, Gradient)
        parts, device = self.parts, following.device
        if device != self.device:
            parts = tuple((images, part.to(device)) for images, part in parts)
        return following.by(parts, self.origin)

    def gathered(self, origin: object, shape: torch.Size) -> Tensor | None:
        """The gradient with respect to scores of ``shape``, if it is one of those scores and covers
        all images."""
        if not (
            self.is_pure
            and self.origin is origin
            and self.kind == "logits"
            and self.layout.is_map
            and self.layout.images == range(shape[0])
        ):
            return None
        images, first = self.parts[0]
        if len(self.parts) == 1 and images == self.layout.images:
            return first
        total = first.new_zeros(shape)
        for images, part in self.parts:
            total[images.start : images.stop] += part
        return total


def gradient_of(
    logits: Any,
    kind: str,
    coarse: Tensor,
    compute: Callable[[], Tensor],
    *,
    contiguous: bool = False,
) -> Any:
    """The gradient with respect to deferred ``logits``: ``coarse`` is that of the scores,
    ``compute()`` gives it at full size. It has the strides of the logits, or is ``contiguous``."""
    recipe = logits.recipe
    twin = recipe.twin
    if contiguous:
        twin = torch.empty(twin.shape, dtype=twin.dtype, device="meta")
    full = Memory(lambda: laid_out(compute(), twin))
    gradient = Gradient(full, (), recipe.layout, kind, twin, recipe.device)
    return DeferredGradient(gradient.by(((recipe.layout.images, coarse),), recipe.memory.origin))


@handles(aten._log_softmax_backward_data.default)
def _log_softmax_backward(
    func: Any, grad: Any, output: Any, dim: int, input_dtype: torch.dtype
) -> Any:
    if not (isinstance(grad, DeferredGradient) and isinstance(output, DeferredLogits)):
        return NotImplemented
    recipe, of = grad.recipe, output.recipe
    if not (
        recipe.is_pure
        and recipe.kind == of.kind == "log_softmax"
        and recipe.origin is of.memory.origin
        and recipe.layout == of.layout
        and recipe.layout.classes == dim % grad.dim()
    ):
        return NotImplemented

    def step(full: Tensor) -> Tensor:
        result: Tensor = func(full, of.ordinary(), dim, input_dtype)
        return result

    twin = recipe.twin.to(input_dtype)
    following = recipe.step(step, twin, recipe.layout, kind="logits")
    return NotImplemented if following is None else DeferredGradient(following)


@handles(*UNDONE)
def _undo(func: Any, grad: Any, *args: Any) -> Any:
    """The way back through a view of some images: the others have a gradient of zero."""
    if not isinstance(grad, DeferredGradient):
        return NotImplemented
    layout = UNDONE[func](grad.recipe.layout, grad.shape, *args)
    if layout is None:
        return NotImplemented
    twin = func(grad.recipe.twin, *args)
    following = grad.recipe.step(step_of(func, args, {}), twin, layout)
    return NotImplemented if following is None else DeferredGradient(following)


@handles(aten.add.Tensor)
def _add(func: Any, first: Any, second: Any, **kwargs: Any) -> Any:
    """The sum of the gradients of two losses."""
    if not (isinstance(first, DeferredGradient) and isinstance(second, DeferredGradient)):
        return NotImplemented
    a, b = first.recipe, second.recipe
    if kwargs or not (
        a.is_pure
        and b.is_pure
        and a.origin is b.origin
        and a.kind == b.kind
        and a.layout == b.layout
        and a.twin.dtype == b.twin.dtype
        and a.device == b.device
    ):
        return NotImplemented
    following = a.step(lambda full: full + ordinary(second), a.twin, a.layout)
    if following is None:
        return NotImplemented
    return DeferredGradient(following.by(_merged(a.parts + b.parts), a.origin))


def _merged(parts: Parts) -> Parts:
    """Adds up the parts of the same images."""
    sums: dict[range, Tensor] = {}
    for images, part in parts:
        sums[images] = sums[images] + part if images in sums else part
    return tuple(sums.items())
