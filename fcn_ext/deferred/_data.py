"""``tensor.data = value``: one tensor takes the memory of another, past torch's dispatcher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._tensor import FUNCTIONS, SET_DATA, Deferred, give_memory
from fcn_ext.deferred._uncompiled import uncompiled

__all__ = ["set_data"]


def set_data(self: Any, value: Any) -> Any:
    """``self.data = value`` where ``self`` is deferred, or NotImplemented.

    torch asks ``self`` alone whether it has rules of its own; for an ordinary one see below.
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

# What torch asks before one tensor takes the memory of another: where one of the two has rules in
# Python, a kernel at this key. For others than ours that is still the one that was there.
_ALLOWED = torch.ops.aten._has_compatible_shallow_copy_type.default
_KEY = "PythonTLSSnapshot"
_answer = torch.library.get_kernel(_ALLOWED, _KEY)
_library = torch.library.Library("aten", "IMPL")  # its kernel goes with it


@uncompiled
def _may_take(keys: Any, self: Any, value: Any) -> Any:
    """Whether ``self`` can take the memory of ``value``, which an ordinary ``self`` finds there."""
    if isinstance(value, Deferred) and not isinstance(self, Deferred):
        give_memory(value)
    return _answer.call_boxed(keys, self, value)


_library.impl(_ALLOWED, _may_take, _KEY, with_keyset=True)
