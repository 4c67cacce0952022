"""Methods that read memory or the object without the dispatcher get the ordinary tensor."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._gradient import DeferredGradient
from fcn_ext.deferred._snapshot import outside_modes
from fcn_ext.deferred._tensor import (
    FUNCTIONS,
    Deferred,
    DeferredLogits,
    as_ordinary,
    without_deferred,
)

_METHODS = (
    "__array__",
    "__dlpack__",
    "__reduce_ex__",
    "_typed_storage",
    "apply_",
    "const_data_ptr",
    "cpu_data_ptr",
    "data_ptr",
    "is_shared",
    "map_",
    "map2_",
    "numpy",
    "share_memory_",
    "storage",
    "tolist",
    "untyped_storage",
)
_OF_DEFERRED = ("recipe", "_is_param")
"""Attributes that an ordinary tensor does not have."""


def _object(deferred: Any) -> Tensor:
    """The ordinary tensor as the object that the plain code would have: a parameter or a leaf if
    ``deferred`` is one, with its gradient and attributes."""
    # Whoever gets the memory may change it.
    deferred.recipe.memory.changes += 1
    if deferred.requires_grad and not deferred.is_leaf:
        with torch.enable_grad():
            full = as_ordinary(deferred)
    else:
        full = deferred.recipe.ordinary().detach()
        if isinstance(deferred, torch.nn.Parameter):
            full = torch.nn.Parameter(full, deferred.requires_grad)
        elif deferred.requires_grad:
            full.requires_grad_()
        full.grad = deferred.grad
    kept = {name: value for name, value in vars(deferred).items() if name not in _OF_DEFERRED}
    vars(full).update(kept)
    return full


def _asked(name: str) -> Callable[..., Any]:
    def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, Deferred):
            # Another argument is, as in `map_`.
            return getattr(self, name)(*without_deferred(args), **without_deferred(kwargs))
        # Fake tensors, for instance, ask for the storage of a view's base.
        with outside_modes():
            full = _object(self)
        result = getattr(full, name)(*args, **kwargs)
        return self if result is full else result

    return answer


def _deepcopied(self: Any, memo: dict[int, Any]) -> Any:
    if not isinstance(self, Deferred):
        return NotImplemented
    if id(self) in memo:
        return memo[id(self)]
    full = _object(self)
    result = full.__deepcopy__(memo)
    # `full` is freed soon, and the next object may get its id.
    memo.pop(id(full), None)
    memo[id(self)] = result
    return result


def _as_subclass(self: Any, cls: Any) -> Any:
    """A tensor of another class is a new object, which cannot be deferred."""
    if not isinstance(self, Deferred):
        return NotImplemented
    is_another = isinstance(cls, type) and not issubclass(type(self), cls)
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.as_subclass(as_ordinary(self) if is_another else self, cls)


def _shown(self: Any, **kwargs: Any) -> str:
    """torch's text of the values, with the ``grad_fn`` of the deferred tensor."""
    full: Tensor = self.recipe.ordinary()
    text = Tensor.__repr__(full, **kwargs)
    if self.grad_fn is not None:
        return f"{text[:-1]}, grad_fn=<{type(self.grad_fn).__name__}>)"
    if self.requires_grad:
        text = f"{text[:-1]}, requires_grad=True)"
    return f"Parameter containing:\n{text}" if isinstance(self, torch.nn.Parameter) else text


def _formatted(self: Any, format: str) -> str:
    return format_of(as_ordinary(self).detach(), format) if format else repr(self)


format_of = Tensor.__format__


def _sent(deferred: Any) -> Any:
    """What a queue of torch.multiprocessing sends: a handle to shared memory, as of any tensor."""
    return reduce_tensor(_object(deferred))


for _kind in (DeferredLogits, DeferredGradient):
    ForkingPickler.register(_kind, _sent)

_ANSWERS: dict[str, Callable[..., Any]] = {
    **{name: _asked(name) for name in _METHODS},
    "__deepcopy__": _deepcopied,
    "__format__": _formatted,
    "__repr__": _shown,
    "as_subclass": _as_subclass,
}
for _name, _answer in _ANSWERS.items():
    uncompiled(_answer)
    _method = getattr(Tensor, _name, None)
    if _method is not None:
        FUNCTIONS[_method] = _answer
        # Called as methods, they are found before torch's rules for subclasses apply.
        setattr(Deferred, _name, _answer)
