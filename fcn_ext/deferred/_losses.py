"""Cross-entropy straight from coarse scores, in the two parts that it has in torch.

In torch, ``F.cross_entropy`` is ``log_softmax`` followed by ``nll_loss``. The first stays deferred,
the second is computed together with the gradient, and both have their own nodes in the graph, so
that second derivatives, and hooks between the two, see torch's formulas.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._gradient import elements_of, gradient_of
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._snapshot import Snapshot, is_batched
from fcn_ext.deferred._tensor import (
    DeferredLogits,
    handles,
)
from fcn_ext.ops import _common

aten = torch.ops.aten
_ops = torch.ops.fcn_ext

REDUCTIONS = ("none", "mean", "sum")
NONE, MEAN, SUM = range(3)
"""The numbers that torch gives them."""


def targets(
    logits: Any,
    target: Any,
    dtypes: tuple[torch.dtype, ...] = (torch.int64,),
) -> Tensor | None:
    """The labels of the pixels of ``logits``, whose dimension 1 is the classes, as (N, H, W)."""
    if type(target) is not Tensor or target.dtype not in dtypes or target.numel() == 0:
        return None
    if target.device != logits.device:
        return None
    if target.shape != (*logits.shape[:1], *logits.shape[2:]):
        return None
    labels: Tensor = logits.recipe.layout.to_map(target)
    return labels


def weights_fit(logits: Any, weight: Any, dtype: torch.dtype | None = None) -> bool:
    """Whether torch accepts these class weights."""
    return weight is None or (
        type(weight) is Tensor
        and weight.dtype == (dtype or logits.dtype)
        and weight.device == logits.device
        and weight.shape == (logits.shape[1],)
        and not weight.requires_grad
    )


def loss_of(
    scores: Tensor,
    snapshot: Snapshot,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    label_smoothing: float,
    with_gradient: bool,
    hits: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Loss, total weight and gradient, with hits added to a list. None if the result could differ
    from torch's: a label is out of range, or the loss or a class weight is not finite."""
    if weight is not None:
        weight = weight.to(_common.accumulate_dtype(scores))
        # In torch such a weight also affects pixels of other classes, by zero times infinity.
        if weight.is_cpu and not math.isfinite(weight.sum().item()):
            return None
    arguments = (scores, target, snapshot.numbers, weight, ignore_index, label_smoothing)
    try:
        if reduction == NONE:
            if hits is None:
                loss = _ops.cross_entropy_pixels.default(*arguments)
            else:
                loss, found = _ops.cross_entropy_pixels_hits.default(*arguments)
                hits.append(found)
            return loss, loss.new_zeros(()), None
        options = (reduction == MEAN, with_gradient)
        if hits is None:
            loss, total, gradient = _ops.cross_entropy.default(*arguments, *options)
        else:
            loss, total, gradient, found = _ops.cross_entropy_hits.default(*arguments, *options)
            hits.append(found)
    except ValueError:
        return None
    # If all pixels are void, the mean is 0 / 0 in torch as well, and gradients agree.
    is_void = weight is None and reduction == MEAN
    if loss.is_cpu and not math.isfinite(loss.item()) and not (is_void and not total):
        return None
    return loss, total, gradient


def pixel_gradient(
    grad: Tensor,
    scores: Tensor,
    snapshot: Snapshot,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    dtype = _common.accumulate_dtype(scores)
    weight = None if weight is None else weight.to(dtype)
    gradient: Tensor = _ops.cross_entropy_pixels_backward.default(
        grad.to(dtype), scores, target, snapshot.numbers, weight, ignore_index, label_smoothing
    )
    return gradient


def is_finite(grad: Tensor) -> bool:
    """Whether a gradient is known to be finite: in torch zero times infinity is not zero."""
    if is_batched(grad):
        return False
    return not grad.is_cpu or all_finite(grad)


def all_finite(numbers: Tensor) -> bool:
    """Whether all numbers of a tensor on the CPU, and their sum, are finite.

    The sum is taken in their own dtype: for another, torch would copy them all. Only sums of
    float16 overflow when no number does.
    """
    numbers = numbers.detach()
    if math.isfinite(numbers.sum().item()):
        return True
    extremes = numbers.aminmax() if numbers.dtype == torch.float16 else ()
    return bool(extremes) and all(math.isfinite(extreme.item()) for extreme in extremes)


@handles(aten.nll_loss2d_forward.default, aten.nll_loss_forward.default)
def _nll(func: Any, self: Any, target: Any, weight: Any, reduction: int, ignore_index: int) -> Any:
    found = scores_over(self, 1)
    if found is None or found[0].kind != "log_softmax" or not weights_fit(self, weight):
        return NotImplemented
    recipe, snapshot, scores = found
    labels = targets(self, target)
    if labels is None:
        return NotImplemented
    with_gradient = self.requires_grad and torch.is_grad_enabled()
    arguments = (scores, snapshot, labels, weight, reduction, ignore_index, 0.0)
    computed = loss_of(*arguments, with_gradient)
    if computed is None:
        return NotImplemented
    loss, total, gradient = computed
    total = total.to(self.dtype)
    if reduction == NONE:
        loss = recipe.layout.from_map(loss, target.shape)
        return loss.to(self.dtype), total
    if gradient is not None and with_gradient:
        recipe.memory.losses[total.data_ptr()] = (total, gradient)
    return loss.to(self.dtype), total


@handles(aten.nll_loss2d_backward.default, aten.nll_loss_backward.default)
def _nll_backward(
    func: Any,
    grad: Any,
    self: Any,
    target: Any,
    weight: Any,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
) -> Any:
    if not isinstance(self, DeferredLogits) or type(grad) is not Tensor or not is_finite(grad):
        return NotImplemented
    recipe = self.recipe
    if reduction != NONE:
        known = recipe.memory.losses.get(total_weight.data_ptr())
        if known is None:
            return NotImplemented
        coarse = known[1] * grad.to(known[1].dtype)
    else:
        found = scores_over(self, 1)
        if found is None or recipe.kind != "log_softmax":
            return NotImplemented
        _, snapshot, scores = found
        labels = targets(self, target)
        if labels is None:
            return NotImplemented
        pixels, numbers = recipe.layout.to_map(grad), (weight, ignore_index, 0.0)
        coarse = pixel_gradient(pixels, scores, snapshot, labels, *numbers)

    elements = elements_of(recipe)
    others = (target, weight, reduction, ignore_index, total_weight)

    def compute() -> Tensor:
        full: Tensor = func(grad, elements(), *others)
        return full

    return gradient_of(self, "log_softmax", coarse, compute, (grad, target, weight))
