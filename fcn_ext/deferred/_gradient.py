"""Gradients of deferred logits, held as gradients of the coarse scores.

Between a loss and the scores, torch's graph has its usual nodes. What they pass on is a tensor of
the full shape that holds the gradient of the scores; the full gradient is computed only if
something reads it, such as a hook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout, slice_of
from fcn_ext.deferred._memory import Memory, Step, step_of
from fcn_ext.deferred._recipe import Recipe
from fcn_ext.deferred._snapshot import Origin, is_batched
from fcn_ext.deferred._strides import dense, laid_out
from fcn_ext.deferred._tensor import Deferred, DeferredLogits, handles
from fcn_ext.deferred._views import UNDONE
from fcn_ext.ops._interpolate import _interpolate_backward

__all__ = [
    "DeferredGradient",
    "computing",
    "elements_of",
    "gradient_of",
    "is_kept",
    "part_of",
    "twin_of",
]

aten = torch.ops.aten

# Not public in torch: -1 outside of a backward pass.
_current_graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)

Part = tuple[range, range, Tensor]
"""The gradient of the scores of some images and classes."""


def part_of(layout: Layout, coarse: Tensor) -> Part:
    return layout.ranges[IMAGES], layout.ranges[CLASSES], coarse


class DeferredGradient(Deferred):
    """The gradient, at full size, of something taken from coarse scores."""

    recipe: Gradient


class Gradient(Recipe):
    """The recipe of a gradient with respect to ``kind``, "logits" or "log_softmax"."""

    parts: tuple[Part, ...]
    origin: Origin | None
    """The origin of the snapshot whose scores the parts are gradients of."""
    rest: Tensor | None
    """The rest of it at full size: the gradient of losses that torch has computed."""

    def by(
        self, parts: tuple[Part, ...], origin: Origin | None, rest: Tensor | None = None
    ) -> Gradient:
        self.parts, self.origin, self.rest = parts, origin, rest
        return self

    def step(self, step: Step, twin: Tensor, layout: Layout, **options: Any) -> Gradient | None:
        """One step further, which must be linear; None for a part of the gradient, since the parts
        of the scores' gradient are of all."""
        if any(now < before for now, before in zip(layout.sizes, self.layout.sizes, strict=True)):
            return None
        following = super().step(step, twin, layout, **options)
        if following is None:
            return None
        assert isinstance(following, Gradient)
        parts, device = self.parts, following.device
        if device != self.device:
            parts = tuple((i, c, part.to(device)) for i, c, part in parts)
        return following.by(parts, self.origin, None if self.rest is None else step(self.rest))

    def gathered(self, origin: Origin, shape: torch.Size) -> Tensor | None:
        """The gradient with respect to scores of ``shape``, if it is one of those scores and of the
        whole map."""
        if not (
            self.is_pure
            and self.origin is origin
            and self.kind == "logits"
            and self.layout.is_whole
        ):
            return None
        total = self._gathered_parts(shape)
        if self.rest is None:
            return total
        total = total + _interpolate_backward(self.rest, *shape[2:], origin.align_corners)
        # Else torch counts what has a weight of zero, too.
        return total if not total.is_cpu or math.isfinite(total.sum().item()) else None

    def _gathered_parts(self, shape: torch.Size) -> Tensor:
        first = self.parts[0][2]
        if len(self.parts) == 1 and first.shape == shape:
            return first
        total = first.new_zeros(shape)
        for images, classes, part in self.parts:
            total[slice_of(images), slice_of(classes)] += part
        return total


def gradient_of(
    logits: Any,
    kind: str,
    coarse: Tensor,
    compute: Callable[[], Tensor],
    reads: Sequence[Any],
    *,
    contiguous: bool = False,
) -> Any:
    """The gradient with respect to deferred ``logits``: ``coarse`` is that of the scores,
    ``compute()``, which ``reads`` other tensors, gives it at full size. It has the strides of the
    logits, without gaps, or is ``contiguous``."""
    recipe = logits.recipe
    twin = dense(recipe.twin)
    if contiguous:
        twin = torch.empty(twin.shape, dtype=twin.dtype, device="meta")
    computed = _of_unchanged(reads, compute)
    full = Memory(lambda: laid_out(computed(), twin), recipe.layout, kind)
    gradient = Gradient(full, (), recipe.layout, kind, twin, recipe.device)
    return DeferredGradient(gradient.by((part_of(recipe.layout, coarse),), recipe.memory.origin))


def _of_unchanged(reads: Sequence[Any], compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``compute``, refused where a tensor that it reads has been changed since: the gradient would
    be of other values than those of the backward pass."""
    versions = [
        (tensor, tensor._version)
        for tensor in reads
        if isinstance(tensor, Tensor) and not tensor.is_inference()
    ]

    def computed() -> Tensor:
        if any(tensor._version != version for tensor, version in versions):
            raise RuntimeError(_CHANGED)
        return compute()

    return computed


_CHANGED = (
    "a tensor that the gradient of deferred logits is computed from was changed in place after the "
    "backward pass, and before the gradient was looked at"
)


def elements_of(recipe: Recipe) -> Callable[[], Tensor]:
    """What gives the elements that a deferred tensor has now, whatever becomes of it."""
    memory, compute = recipe.memory, recipe.compute
    changes = memory.changes

    def elements() -> Tensor:
        if compute is not None and (memory.is_shared or memory.changes != changes):
            return compute()
        if memory.changes != changes:
            raise RuntimeError(_CHANGED)
        return recipe.ordinary()

    return elements


_OF_OUTPUT = {
    aten._softmax_backward_data.default: "softmax",
    aten._log_softmax_backward_data.default: "log_softmax",
}


@handles(*_OF_OUTPUT)
def _softmax_backward(func: Any, grad: Any, output: Any, dim: int, input_dtype: torch.dtype) -> Any:
    if not isinstance(grad, DeferredGradient):
        return NotImplemented
    recipe = grad.recipe
    if not (
        recipe.is_pure
        and recipe.kind == _OF_OUTPUT[func]
        and recipe.layout.class_dim == dim % grad.dim()
        and _is_output(output, recipe)
    ):
        return NotImplemented
    # Not the tensor itself, which holds its graph.
    if isinstance(output, DeferredLogits):
        elements = elements_of(output.recipe)
    else:
        alias = aten.alias.default(output)

        def elements() -> Tensor:
            return alias  # type: ignore[no-any-return]

    def step(full: Tensor) -> Tensor:
        result: Tensor = func(full, elements(), dim, input_dtype)
        return result

    twin = recipe.twin.to(input_dtype)
    following = recipe.step(step, twin, recipe.layout, kind="logits")
    return NotImplemented if following is None else DeferredGradient(following)


def _is_output(output: Any, recipe: Gradient) -> bool:
    """Whether a gradient is one by ``output``, which has no recipe if something has computed it."""
    if not isinstance(output, DeferredLogits):
        return type(output) is Tensor and output.shape == recipe.twin.shape
    of = output.recipe
    return (
        of.kind == recipe.kind and of.memory.origin is recipe.origin and of.layout == recipe.layout
    )


@handles(*UNDONE)
def _undo(func: Any, grad: Any, *args: Any) -> Any:
    """The way back through a view of a part: the rest has a gradient of zero."""
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
    """The sum of the gradients of two losses, one of which torch may have computed."""
    grads = (first, second)
    recipes = [grad.recipe for grad in grads if isinstance(grad, DeferredGradient)]
    if kwargs or not recipes or not all(_meets(grad, recipes[0]) for grad in grads):
        return NotImplemented
    known, computes = recipes[0], [computing(grad) for grad in grads]
    parts = tuple(part for recipe in recipes for part in recipe.parts)
    given = [grad.recipe.rest if isinstance(grad, DeferredGradient) else grad for grad in grads]
    rests = [rest for rest in given if rest is not None]
    memory = Memory(lambda: func(*(compute() for compute in computes)), known.layout, known.kind)
    a, b = map(twin_of, grads)
    twin = a if a.stride() == b.stride() else func(a, b)
    total = Gradient(memory, (), known.layout, known.kind, twin, known.device)
    rest = func(*rests) if len(rests) == 2 else rests[0] if rests else None
    return DeferredGradient(total.by(_merged(parts), known.origin, rest))


def _meets(grad: Any, known: Gradient) -> bool:
    """Whether a gradient can be added to a known one without a look at either."""
    if isinstance(grad, DeferredGradient):
        recipe = grad.recipe
        return (
            recipe.is_pure
            and recipe.origin is known.origin
            and recipe.kind == known.kind
            and recipe.layout == known.layout
            and recipe.twin.dtype == known.twin.dtype
            and recipe.device == known.device
        )
    return (
        is_kept(grad)
        and grad.shape == known.twin.shape
        and grad.dtype == known.twin.dtype
        and grad.device == known.device
    )


def is_kept(grad: Any) -> bool:
    """Whether a gradient is an ordinary tensor that stays as it is."""
    # Within a backward pass nobody changes a gradient that another holds.
    return type(grad) is Tensor and _current_graph_task() != -1 and not is_batched(grad)


def computing(grad: Any) -> Callable[[], Tensor]:
    compute = grad.recipe.compute if isinstance(grad, DeferredGradient) else None
    return (lambda: grad) if compute is None else compute


def twin_of(grad: Any) -> Tensor:
    if isinstance(grad, DeferredGradient):
        return grad.recipe.twin
    strides = grad.stride()
    return torch.empty_strided(grad.shape, strides, dtype=grad.dtype, device="meta")


def _merged(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Adds up the parts of the same images and classes."""
    sums: dict[tuple[range, range], Tensor] = {}
    for images, classes, part in parts:
        place = images, classes
        sums[place] = sums[place] + part if place in sums else part
    return tuple((*place, part) for place, part in sums.items())
