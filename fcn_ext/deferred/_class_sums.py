"""The sum, or the mean, of the logarithms of all probabilities of a pixel, straight from coarse
scores: label smoothing as many libraries write it, beside ``gather``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._losses import is_finite, pixel_gradient
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._strides import laid_out
from fcn_ext.deferred._tensor import FUNCTIONS
from fcn_ext.deferred._told import NO_VOID

_op = torch.ops.fcn_ext.cross_entropy_pixels.default

_ALL = 1.0
"""The label smoothing by which the cross-entropy is the mean over all classes, whatever the label:
minus the mean of the logarithms."""


@dataclass(frozen=True)
class _OfClasses:
    """The form of ``sum`` or ``mean`` over the classes; ``share`` is how much the mean counts."""

    function: Callable[..., Any]
    layout: Layout
    dim: int
    keepdim: bool
    share: int
    contiguous_gradient = False

    def plain(self, logarithms: Tensor, *_: Any) -> Tensor:
        reduced: Tensor = self.function(logarithms, self.dim, self.keepdim)
        return reduced

    def coarse(self, logarithms: Any, grad: Tensor, *_: Any) -> Tensor | None:
        found = scores_over(logarithms, self.dim)
        if found is None or not is_finite(grad):
            return None
        snapshot, scores = found[1:]
        of_pixels = -self.share * self.layout.to_map(grad)
        labels = _labels(scores, snapshot)
        return pixel_gradient(of_pixels, scores, snapshot, labels, None, NO_VOID, _ALL)


def _labels(scores: Tensor, snapshot: Snapshot) -> Tensor:
    """Of any class, for each pixel."""
    label = torch.zeros((1, 1, 1), dtype=torch.uint8, device=scores.device)
    return label.expand(len(scores), *snapshot.size)


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """``torch.sum`` or ``torch.mean`` over the classes."""

    def reduced(input: Any, dim: Any = None, keepdim: Any = False, **others: Any) -> Any:
        if isinstance(dim, (tuple, list)) and len(dim) == 1:
            dim = dim[0]
        if type(dim) is not int or type(keepdim) is not bool or others:
            return NotImplemented
        found = scores_over(input, dim)
        if found is None or found[0].kind != "log_softmax" or found[2].shape[1] > MOST_CLASSES:
            return NotImplemented
        recipe, snapshot, scores = found
        differentiated, possible = may_be_one_node(input)
        if not possible:
            return NotImplemented
        share = scores.shape[1] if function is torch.sum else 1
        with torch.no_grad():
            labels = _labels(scores, snapshot)
            loss = _op(scores, labels, snapshot.numbers, None, NO_VOID, _ALL)
            twin = function(recipe.twin, dim, keepdim)
            value = recipe.layout.from_map(loss.mul_(-share), twin.shape)
            result = laid_out(value.to(input.dtype), twin)
        if not differentiated:
            return result
        form = _OfClasses(function, recipe.layout, dim, keepdim, share)
        return OneNode.apply(input, form, [input], [result])

    return reduced


for _name in ("sum", "mean"):
    _function = getattr(torch, _name)
    FUNCTIONS[_function] = FUNCTIONS[getattr(Tensor, _name)] = _reduced(_function)
