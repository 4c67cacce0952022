"""Negative padding, by which maps are cropped, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fcn_ext.deferred._memory import step_of
from fcn_ext.deferred._tensor import DeferredLogits, handles
from fcn_ext.deferred._views import CARRIED

aten = torch.ops.aten


@handles(aten.constant_pad_nd.default)
def _padded(func: Any, self: Any, pad: Sequence[int], *value: Any) -> Any:
    if not isinstance(self, DeferredLogits) or len(pad) > 2 * self.dim() or len(pad) % 2:
        return NotImplemented
    recipe, layout, shape = self.recipe, self.recipe.layout, list(self.shape)
    for number, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = self.dim() - 1 - number
        first, last = -before, shape[dim] + after
        shape[dim] = last - first
        if before > 0 or after > 0 or last <= first:
            return NotImplemented
        kept = CARRIED[aten.slice.Tensor](layout, shape, dim, first, last)
        if kept is None:
            return NotImplemented
        layout = kept
    twin = func(recipe.twin, pad, *value)
    carried = recipe.step(step_of(func, (pad, *value), {}), twin, layout)
    return NotImplemented if carried is None else DeferredLogits(carried)
