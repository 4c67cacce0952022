"""The elements of given classes straight from coarse scores, as losses by ``gather`` take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._losses import is_finite, pixel_gradient
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._tensor import FUNCTIONS
from fcn_ext.deferred._told import NO_VOID, elements


@dataclass(frozen=True)
class _Elements:
    """The form of ``gather`` along the classes, of one per pixel."""

    layout: Layout
    kind: str
    dim: int
    contiguous_gradient = False

    def plain(self, input: Tensor, index: Any, *rest: Any) -> Tensor:
        return input.gather(self.dim, index)

    def coarse(self, input: Any, grad: Tensor, index: Any, value: Any, *_: Any) -> Tensor | None:
        found = scores_over(input, self.dim)
        if found is None or not is_finite(grad):
            return None
        snapshot, scores = found[1:]
        # The logarithm of a probability is minus its cross-entropy.
        of_pixels = -self.layout.to_map(grad)
        if self.kind == "softmax":
            of_pixels = of_pixels.to(value.dtype) * value
        labels = self.layout.to_map(index)
        return pixel_gradient(of_pixels, scores, snapshot, labels, None, NO_VOID, 0.0)


def _gather(input: Any, dim: Any, index: Any, *, sparse_grad: bool = False, out: Any = None) -> Any:
    """``torch.gather``."""
    if type(dim) is not int or type(index) is not Tensor or sparse_grad or out is not None:
        return NotImplemented
    found = scores_over(input, dim)
    if found is None or found[2].shape[1] > MOST_CLASSES:
        return NotImplemented
    recipe, part, _ = found
    told = None if recipe.snapshot is None else recipe.snapshot.told
    # Of a crop, values could be rounded otherwise than those of the whole that are told.
    if recipe.layout.is_crop or told is None:
        return NotImplemented
    shape: list[int] = list(input.shape)
    shape[dim] = 1
    if recipe.kind == "sigmoid" or index.dtype != torch.int64 or list(index.shape) != shape:
        return NotImplemented
    differentiated, possible = may_be_one_node(input)
    if index.device != input.device or not possible or (differentiated and recipe.kind == "logits"):
        return NotImplemented
    with torch.no_grad():
        labels = recipe.layout.to_map(index)
        value = elements(part, recipe.kind, labels)
        if value is None:
            return NotImplemented
        if not told.tell_elements(recipe.kind, recipe.layout, labels):
            return NotImplemented
        result = recipe.layout.from_map(value, shape).to(input.dtype, copy=True)
    if not differentiated:
        return result
    form = _Elements(recipe.layout, recipe.kind, dim)
    return OneNode.apply(input, form, [index, value, input], [result])


FUNCTIONS[torch.gather] = _gather
FUNCTIONS[Tensor.gather] = _gather
