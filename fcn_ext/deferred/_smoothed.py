"""Cross-entropy as one node of the graph: with label smoothing or probabilities as its target, for
which torch has many nodes, and as ``ops.cross_entropy``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext._arguments import integer
from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._losses import (
    NONE,
    REDUCTIONS,
    is_finite,
    loss_of,
    pixel_gradient,
    targets,
    weights_fit,
)
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._soft_targets import soft_cross_entropy
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits
from fcn_ext.ops import _common, _cross_entropy, _cross_entropy_pixels

_LABELS = (torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class _CrossEntropy:
    """The form of ``F.cross_entropy``: its options, and the dtype of its result."""

    ignore_index: int
    reduction: str
    label_smoothing: float
    dtype: torch.dtype

    @property
    def contiguous_gradient(self) -> bool:
        return self.label_smoothing > 0

    def plain(
        self, logits: Tensor, target: Any, weight: Tensor | None, _: Tensor | None = None
    ) -> Tensor:
        loss = F.cross_entropy(
            logits,
            target.to(torch.int64),
            weight=weight if weight is None else weight.to(logits.dtype),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
        return loss.to(self.dtype)

    def coarse(
        self,
        logits: Any,
        grad: Tensor,
        target: Any,
        weight: Tensor | None,
        gradient: Tensor | None = None,
    ) -> Tensor | None:
        found = scores_over(logits, 1)
        if found is None or not is_finite(grad):
            return None
        if gradient is not None:
            return gradient * grad.to(gradient.dtype)
        recipe, snapshot, scores = found
        labels = targets(logits, target, _LABELS)
        if labels is None:
            return None
        numbers = (weight, self.ignore_index, self.label_smoothing)
        pixels = recipe.layout.to_map(grad)
        return pixel_gradient(pixels, scores, snapshot, labels, *numbers)


def _one_node(
    logits: Any,
    target: Any,
    weight: Tensor | None,
    form: _CrossEntropy,
    dtypes: tuple[torch.dtype, ...],
    hits: list[Tensor] | None = None,
) -> Any:
    """The loss of deferred logits as one node of the graph, with hits added to a list, or
    NotImplemented."""
    found = scores_over(logits, 1)
    if found is None or found[0].kind != "logits" or form.reduction not in REDUCTIONS:
        return NotImplemented
    recipe, snapshot, scores = found
    labels = targets(logits, target, dtypes)
    differentiated, possible = may_be_one_node(logits)
    if labels is None or not possible:
        return NotImplemented
    reduction = REDUCTIONS.index(form.reduction)
    with torch.no_grad():
        numbers = (weight, reduction, form.ignore_index, form.label_smoothing)
        computed = loss_of(scores, snapshot, labels, *numbers, differentiated, hits)
        if computed is None:
            return NotImplemented
        loss, _, gradient = computed
        if reduction == NONE:
            loss = recipe.layout.from_map(loss, target.shape)
            loss = loss.clone() if recipe.layout.is_map else loss  # not a view of another tensor
        loss = loss.to(form.dtype)
    if not differentiated:
        return loss
    return OneNode.apply(logits, form, [target, weight, gradient], [loss])


def _smoothed(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """``F.cross_entropy`` with label smoothing or probabilities as its target. Without these, torch
    splits the loss into its usual parts."""
    is_soft = isinstance(target, Tensor) and target.is_floating_point()
    if not (isinstance(label_smoothing, (int, float)) and 0 <= label_smoothing <= 1):
        return NotImplemented
    if label_smoothing == 0 and not is_soft:
        return NotImplemented
    if size_average is not None or reduce is not None or not isinstance(input, DeferredLogits):
        return NotImplemented
    try:
        ignore_index = integer(ignore_index, "ignore_index")
    except (TypeError, ValueError):
        return NotImplemented  # for torch to refuse in its own words
    if torch.is_autocast_enabled(input.device.type) and input.dtype != torch.float64:
        input = input.float()  # as autocast does with this function
        weight = weight.float() if isinstance(weight, Tensor) else weight
        if is_soft and target.dtype != torch.float64:
            target = target.float()
    if is_soft:
        options = (ignore_index, reduction, float(label_smoothing))
        return soft_cross_entropy(input, target, weight, *options)
    if not weights_fit(input, weight):
        return NotImplemented
    form = _CrossEntropy(ignore_index, reduction, label_smoothing, input.dtype)
    return _one_node(input, target, weight, form, (torch.int64,))


def _own_loss(
    hits: list[Tensor] | None,
    input: Any,
    target: Any,
    geometry: tuple[int, ...],
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    mean: bool | None = None,
    with_gradient: bool = False,
) -> Any:
    """``ops.cross_entropy`` of deferred logits that already have the size of the target, with hits
    added to a list."""
    if len(geometry) != 1 or not isinstance(input, DeferredLogits):
        return NotImplemented
    dtype = _common.accumulate_dtype(input)
    if not 0 <= label_smoothing <= 1 or not weights_fit(input, weight, dtype):
        return NotImplemented
    reduction = "none" if mean is None else "mean" if mean else "sum"
    form = _CrossEntropy(ignore_index, reduction, label_smoothing, dtype)
    if not input.recipe.layout.is_map:
        return NotImplemented
    loss = _one_node(input, target, weight, form, _LABELS, hits)
    return loss if loss is NotImplemented or mean is None else (loss, None, None)


def _own(*arguments: Any) -> Any:
    return _own_loss(None, *arguments)


def _own_hits(input: Any, *rest: Any) -> Any:
    hits: list[Tensor] = []
    if input.shape[1] > MOST_CLASSES:
        return NotImplemented
    loss = _own_loss(hits, input, *rest)
    if loss is NotImplemented:
        return NotImplemented
    return (*loss, *hits) if isinstance(loss, tuple) else (loss, *hits)


FUNCTIONS[F.cross_entropy] = _smoothed
FUNCTIONS[_cross_entropy._cross_entropy] = _own
FUNCTIONS[_cross_entropy_pixels.cross_entropy_pixels] = _own
FUNCTIONS[_cross_entropy._cross_entropy_hits] = _own_hits
FUNCTIONS[_cross_entropy_pixels.cross_entropy_pixels_hits] = _own_hits
