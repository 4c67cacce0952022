"""``tensor.data = value``: one tensor takes the memory of another, past torch's dispatcher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._tensor import FUNCTIONS, Deferred

__all__ = ["SET_DATA", "set_data"]

SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]


def set_data(self: Any, value: Any) -> Any:
    """``self.data = value`` where one of them is deferred, or NotImplemented.

    torch asks ``self`` alone whether it has rules of its own, so an ordinary one comes here by the
    context, which sees all.
    """
    if not isinstance(self, Deferred):
        if not isinstance(value, Deferred):
            return NotImplemented
        SET_DATA(self, value.recipe.ordinary())  # or it would take memory that is not there
        return None
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
