"""New tensors that take no more than shape, strides and dtype of a deferred one: ``zeros_like``,
``new_zeros``, ``rand_like`` and the like."""

from __future__ import annotations

from typing import Any

import torch

from fcn_ext.deferred._tensor import Deferred, handles

aten = torch.ops.aten


@handles(
    aten.empty_like.default,
    aten.full_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.new_full.default,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.ones_like.default,
    aten.rand_like.default,
    aten.randint_like.default,
    aten.randint_like.low_dtype,
    aten.randn_like.default,
    aten.zeros_like.default,
)
def _like(func: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(self, Deferred) or not self.recipe.is_pure:
        return NotImplemented
    if kwargs.get("device") is None:
        kwargs = {**kwargs, "device": self.recipe.device}
    return func(self.recipe.twin, *args, **kwargs)
