"""``ops.region_sums`` of deferred logits, and so the region losses of this package."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._gradient import gradient_of
from fcn_ext.deferred._losses import is_finite, weights_fit
from fcn_ext.deferred._one_node import may_be_one_node
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits, ordinary
from fcn_ext.ops import _common, _region_sums
from fcn_ext.ops._autograd import differentiable_once

aten = torch.ops.aten
_op = torch.ops.fcn_ext.region_sums.default


class RegionSums(torch.autograd.Function):
    """``ops.region_sums`` of deferred logits as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, logits: Any, target: Tensor, options: tuple[Any, ...], computed: list[Tensor]
    ) -> tuple[Tensor, ...]:
        ctx.geometry, weight, ctx.ignore_index, ctx.squared, _ = options
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(aten.clone.default(logits), target, weight)
        losses = computed.pop()
        return computed.pop(), losses

    @staticmethod
    @uncompiled
    def backward(ctx: Any, *grads: Any) -> Any:
        frozen, target, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            raise differentiable_once("region_sums")

        def of(scores: Tensor, geometry: tuple[int, ...]) -> Tensor:
            arguments = scores, target, geometry, weight, ctx.ignore_index, ctx.squared
            return _region_sums.gradient_of_scores(grads, *arguments)

        def plain() -> Tensor:
            full: Tensor = of(ordinary(frozen), ctx.geometry).to(frozen.dtype)
            return full

        found = scores_over(frozen, 1)
        given = [grad for grad in grads if grad is not None]
        if found is None or not all(map(is_finite, given)):
            return plain(), None, None, None
        _, snapshot, scores = found
        coarse = of(scores, snapshot.numbers)
        reads = (*given, target, weight)
        return gradient_of(frozen, "logits", coarse, plain, reads), None, None, None


def _sums(
    input: Any,
    target: Any,
    geometry: tuple[int, ...],
    weight: Tensor | None,
    ignore_index: int,
    squared: bool,
    with_loss: bool,
) -> Any:
    """``ops.region_sums`` of deferred logits that already have the size of the target."""
    found = scores_over(input, 1) if isinstance(input, DeferredLogits) else None
    if found is None or found[0].kind != "logits" or len(geometry) != 1:
        return NotImplemented
    recipe, snapshot, scores = found
    if (
        not recipe.layout.is_map
        or type(target) is not Tensor
        or snapshot.size != tuple(target.shape[1:])
        or len(target) != len(scores)
        or not weights_fit(input, weight, _common.accumulate_dtype(input))
    ):
        return NotImplemented
    differentiated, possible = may_be_one_node(input)
    if not possible:
        return NotImplemented
    numbers = (weight, ignore_index, squared, with_loss)
    with torch.no_grad():
        computed = list(_op(scores, target, snapshot.numbers, *numbers))
    if not differentiated:
        return tuple(computed)
    return RegionSums.apply(input, target, (geometry, *numbers), computed)


FUNCTIONS[_region_sums._region_sums] = _sums
