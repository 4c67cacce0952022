"""Tensors without memory: autograd and shapes are torch's own; elements are computed on demand.

A deferred tensor is a node of torch's graph like any other. Operators reach it below autograd:
those in the table ``HANDLERS``, which the modules beside this one fill, are computed from the
coarse scores, and all others get the ordinary tensor, which is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._memory import step_of
from fcn_ext.deferred._no_memory import guard_memory
from fcn_ext.deferred._recipe import Logits, Recipe
from fcn_ext.deferred._snapshot import outside_modes
from fcn_ext.deferred._views import CARRIED, SHARED
from fcn_ext.ops._observers import _transforms_active

__all__ = ["FUNCTIONS", "HANDLERS", "Deferred", "DeferredLogits", "carry", "handles", "ordinary"]

HANDLERS: dict[Any, Callable[..., Any]] = {}
"""For an operator, the function that computes it from coarse scores or returns NotImplemented."""
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""The same for Python functions of torch and of this package, before autograd sees them."""

aten = torch.ops.aten
_without_subclasses = torch._C.DisableTorchFunctionSubclass
_FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def handles(*operators: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function (operator, *arguments) in ``HANDLERS``."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS.update(dict.fromkeys(operators, handler))
        return handler

    return register


class Deferred(Tensor):
    """What deferred logits and their gradients share."""

    recipe: Recipe

    @staticmethod
    def __new__(cls, recipe: Any) -> Any:
        twin = recipe.twin
        tensor = Tensor._make_wrapper_subclass(
            cls,
            twin.shape,
            twin.stride(),
            twin.storage_offset(),
            dtype=twin.dtype,
            device=recipe.device,
        )
        tensor.recipe = recipe
        guard_memory(tensor)
        return tensor

    def __init__(self, recipe: Any) -> None:
        pass

    @classmethod
    @uncompiled
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = FUNCTIONS.get(func)
        if handler is not None:
            result = handler(*args, **kwargs)
            if result is not NotImplemented:
                return result
        for kind in types:
            if kind not in _KNOWN and not issubclass(kind, Deferred):
                # A class with rules of its own gets the tensors that it would get without us.
                return func(*without_deferred(args), **without_deferred(kwargs))
        with _without_subclasses():
            return func(*args, **kwargs)

    @classmethod
    @uncompiled
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func)
        if handler is not None and not _transforms_active():
            result = handler(func, *args, **kwargs)
            if result is not NotImplemented:
                return result
        if _is_composite(func) and _COMPOSITE not in func.py_kernels:
            return func.decompose(*args, **kwargs)
        return _computed(func, args, kwargs)


_KNOWN = {Tensor, torch.nn.Parameter}


class DeferredLogits(Deferred):
    """Scores at full size that nothing has computed yet.

    A ``torch.Tensor`` with the shape, dtype, device and gradient of
    ``F.interpolate(scores, size, mode="bilinear")``. It keeps a copy of ``scores`` and takes no
    more memory than that. Losses and predictions are computed straight from it
    (:class:`fused_upsampling` lists them). Anything else computes the full tensor once, and from
    then on it is that tensor.

    Made by :class:`fused_upsampling` and :func:`deferred_interpolate`, and from deferred logits by
    operations that need no elements: ``float``, ``to``, ``detach``, ``contiguous``, taking images
    or classes, crops, permutations, views, ``softmax``, ``log_softmax`` and ``sigmoid``.
    """

    recipe: Logits


def ordinary(value: Any) -> Any:
    """The ordinary tensor of a deferred one, without autograd; anything else as it is."""
    return value.recipe.ordinary() if isinstance(value, Deferred) else value


@handles(*CARRIED)
def carry(func: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """Operators that move or copy elements leave them uncomputed."""
    if not isinstance(self, Deferred) or not self.recipe.is_pure:
        return NotImplemented
    recipe, device, for_twin = self.recipe, None, kwargs
    if kwargs:
        if kwargs.get("pin_memory") or kwargs.get("layout") not in (None, torch.strided):
            return NotImplemented
        if kwargs.get("dtype") not in (None, *_FLOATING):
            return NotImplemented
        device = kwargs.get("device")
        if device is not None and device.type not in ("cpu", "cuda"):
            return NotImplemented
        for_twin = {**kwargs, "device": "meta"} if device is not None else kwargs
    try:
        twin = func(recipe.twin, *args, **for_twin)
        layout = CARRIED[func](recipe.layout, twin.shape, *args)
    except (RuntimeError, IndexError):  # the ordinary tensor raises it as well
        return NotImplemented
    if layout is None:
        return NotImplemented
    shared = func in SHARED
    carried = recipe.step(step_of(func, args, kwargs), twin, layout, shared=shared, device=device)
    if carried is None:
        return NotImplemented
    # A view is of the mode of its tensor. Outside of inference mode torch lets detached ones be
    # changed, however.
    inference = shared and self.is_inference()
    changeable = func is torch.ops.aten.detach.default
    if shared and torch.is_inference_mode_enabled() != inference and not (inference and changeable):
        with torch.inference_mode(inference):
            return type(self)(carried)
    return type(self)(carried)


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call with ordinary tensors in place of deferred ones."""
    if torch.Tag.inplace_view in func.tags:
        return _changed_shape(func, args, kwargs)
    given: list[tuple[Tensor, Deferred]] = []
    ordinary_args = [_taken(value, given, func) for value in args]
    ordinary_kwargs = {name: _taken(value, given, func) for name, value in kwargs.items()}
    if func._schema.is_mutable:
        for _, deferred in given:
            deferred.recipe.memory.changes += 1
    return _given_back(func(*ordinary_args, **ordinary_kwargs), given)


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _is_composite(func: Any) -> bool:
    """Whether torch makes an operator of others, as ``softmax`` of ``_softmax``. It does so before
    it comes here, but not for inference tensors."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


@cache
def _only_reads(func: Any) -> bool:
    """Whether an operator neither changes its arguments nor returns a view of one, or something
    with the strides of such a view, as padding does."""
    if func in (aten._unsafe_view.default, aten.constant_pad_nd.default):
        return False
    return all(argument.alias_info is None for argument in func._schema.arguments)


# Not closures: a recursive closure refers to itself, so that it and the tensors it holds would be
# kept until Python's garbage collector runs.
def _taken(value: Any, given: list[tuple[Tensor, Deferred]], func: Any) -> Any:
    """``value`` with the ordinary tensors that ``func`` gets in place of deferred ones, which are
    added to ``given``."""
    if isinstance(value, Deferred):
        recipe = value.recipe
        reads = _only_reads(func)
        full = recipe.read(value) if reads and recipe.has_some_classes else recipe.ordinary()
        recipe.memory.is_shared |= not reads
        given.append((full, value))
        return full
    if isinstance(value, (list, tuple)):
        return [_taken(item, given, func) for item in value]
    return value


def _given_back(value: Any, given: list[tuple[Tensor, Deferred]]) -> Any:
    """``value`` with deferred tensors in place of those ordinary ones that were changed in
    place."""
    for full, deferred in given:
        if value is full:
            _follow(deferred, full)
            return deferred
    if isinstance(value, (list, tuple)):
        return type(value)(_given_back(item, given) for item in value)
    return value


def _below_python() -> Any:
    return torch._C._DisableTorchDispatch()


def _changed_shape(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``transpose_``, ``squeeze_``, ``resize_`` and the like: shape and strides of both tensors."""
    deferred = args[0]
    if not isinstance(deferred, Deferred):
        return func(*map(ordinary, args), **kwargs)
    full = aten.alias.default(deferred.recipe.ordinary())
    deferred.recipe.memory.changes += 1
    func(full, *args[1:], **kwargs)
    deferred.recipe.replaced = full
    _follow(deferred, full)
    return deferred


def _follow(deferred: Deferred, full: Tensor) -> None:
    """Gives a deferred tensor the shape and strides that its ordinary one has taken on."""
    if deferred.shape == full.shape and deferred.stride() == full.stride():
        return
    with _without_subclasses(), _below_python():
        try:
            deferred.as_strided_(full.shape, full.stride(), full.storage_offset())
        except RuntimeError:  # larger than the memory that it would have had
            SET_DATA(deferred, full)


SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]


def give_memory(deferred: Deferred) -> None:
    """Makes a deferred tensor share the memory of its ordinary one, for code that takes it from
    there."""
    with outside_modes():
        full = deferred.recipe.ordinary()
    deferred.recipe.memory.changes += 1
    with _without_subclasses(), _below_python():
        SET_DATA(deferred, full)


def without_deferred(tree: Any) -> Any:
    """A list, dictionary or the like with ordinary tensors in place of deferred ones."""
    return pytree.tree_map_only(Deferred, as_ordinary, tree)


class _Ordinary(torch.autograd.Function):
    """The ordinary tensor as a node of the graph behind the deferred one's."""

    @staticmethod
    def forward(ctx: Any, deferred: Any) -> Tensor:
        full: Tensor = deferred.recipe.ordinary().detach()
        return full

    @staticmethod
    @uncompiled
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def as_ordinary(deferred: Any) -> Tensor:
    """The ordinary tensor, whose gradient goes on to the deferred one."""
    if not deferred.requires_grad:
        full: Tensor = deferred.recipe.ordinary()
        return full
    with _without_subclasses():
        result: Tensor = _Ordinary.apply(deferred)
    return result
