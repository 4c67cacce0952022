"""``tensor.data = value``, by which one tensor takes another's memory without the dispatcher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._tensor import FUNCTIONS, SET_DATA, Deferred, give_memory

__all__ = ["set_data"]


def set_data(self: Any, value: Any) -> Any:
    """``self.data = value`` if ``self`` is deferred, else NotImplemented.

    torch calls ``__torch_function__`` of ``self`` alone; if ``self`` is an ordinary tensor, see
    below.
    """
    if not isinstance(self, Deferred):
        return NotImplemented
    if isinstance(value, Deferred) and type(value.recipe) is not type(self.recipe):
        value = value.recipe.ordinary()
    with torch._C.DisableTorchFunctionSubclass():
        SET_DATA(self, value)  # shape, strides, dtype and device, or torch's refusal
        # A recipe of its own: the graph may hold the former one.
        if isinstance(value, Deferred):
            self.recipe = copy.copy(value.recipe)
        else:
            self.recipe = copy.copy(self.recipe)
            self.recipe.replaced = Tensor.detach(value)
    return None


FUNCTIONS[SET_DATA] = set_data

# Before one tensor takes the memory of another, torch calls this operator; if one of the two is a
# subclass with Python rules, its kernel at this key. For all tensors but ours, the kernel that was
# there before is called.
_ALLOWED = torch.ops.aten._has_compatible_shallow_copy_type.default
_KEY = "PythonTLSSnapshot"
_answer = torch.library.get_kernel(_ALLOWED, _KEY)
_library = torch.library.Library("aten", "IMPL")  # kept, since its kernel is removed with it


@uncompiled
def _may_take(keys: Any, self: Any, value: Any) -> Any:
    """Whether ``self`` can take the memory of ``value``. A deferred ``value`` is computed first if
    ``self`` is ordinary."""
    if isinstance(value, Deferred) and not isinstance(self, Deferred):
        give_memory(value)
    return _answer.call_boxed(keys, self, value)


_library.impl(_ALLOWED, _may_take, _KEY, with_keyset=True)
