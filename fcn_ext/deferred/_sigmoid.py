"""``ops.sigmoid_sums`` and ``ops.sigmoid_loss`` of deferred logits, and so the losses built on
them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fcn_ext import reference
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._losses import is_finite
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_of
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits
from fcn_ext.ops import _common, _sigmoid_loss, _sigmoid_sums

__all__ = ["Sums", "computed_sums"]

_ops = torch.ops.fcn_ext


@dataclass(frozen=True)
class Sums:
    """The form of ``ops.sigmoid_sums`` for logits at full size; the target is (N, Q, H, W)."""

    layout: Layout
    ignore_index: int
    gamma: float | None
    regions: bool
    contiguous_gradient = False

    def plain(self, logits: Tensor, target: Any, *rest: Any) -> Tensor:
        map = self.layout.to_full_map(logits).to(_common.accumulate_dtype(logits))
        return reference.sigmoid_sums(
            map, target, ignore_index=self.ignore_index, gamma=self.gamma, regions=self.regions
        )

    def coarse(self, logits: Any, grad: Tensor, target: Any, *rest: Any) -> Tensor | None:
        found = scores_of(logits)
        if found is None or not is_finite(grad):
            return None
        _, snapshot, scores = found
        options = (snapshot.numbers, self.ignore_index, self.gamma, self.regions)
        gradient: Tensor = _ops.sigmoid_sums_backward.default(grad, scores, target, *options)
        return gradient


def computed_sums(logits: Any, target: Tensor, form: Sums) -> Tensor | None:
    """The sums of deferred logits, without a gradient; None if they could differ from those of the
    ordinary tensor."""
    found = scores_of(logits)
    if found is None:
        return None
    _, snapshot, scores = found
    options = (snapshot.numbers, form.ignore_index, form.gamma, form.regions)
    try:
        with torch.no_grad():
            sums: Tensor = _ops.sigmoid_sums.default(scores, target, *options)
    except ValueError:
        return None
    finite = not sums.is_cpu or math.isfinite(sums.sum(dtype=torch.float64).item())
    return sums if finite else None


def _own(
    input: Any,
    target: Any,
    geometry: tuple[int, ...],
    ignore_index: int,
    gamma: float | None,
    regions: bool,
) -> Any:
    """``ops.sigmoid_sums`` of deferred logits that already have the size of the target."""
    if not isinstance(input, DeferredLogits) or len(geometry) != 1 or input.recipe.kind != "logits":
        return NotImplemented
    if type(target) is not Tensor or not input.recipe.layout.is_map or input.shape != target.shape:
        return NotImplemented
    form = Sums(input.recipe.layout, ignore_index, gamma, regions)
    differentiated, possible = may_be_one_node(input)
    sums = computed_sums(input, target, form) if possible else None
    if sums is None:
        return NotImplemented
    # The logits are saved, too, as torch does, so that changing them in place before the backward
    # pass raises an error.
    return OneNode.apply(input, form, [target, input], [sums]) if differentiated else sums


def _own_loss(
    input: Any,
    target: Any,
    weight: Tensor,
    geometry: tuple[int, ...],
    ignore_index: int,
    gamma: float | None,
    with_gradient: bool,
) -> Any:
    """``ops.sigmoid_loss`` of such logits: their weighted sums."""
    sums = _own(input, target, geometry, ignore_index, gamma, False)
    if sums is NotImplemented:
        return sums
    loss = reference.weighed(sums, weight, focal=gamma is not None)
    return loss, sums.detach(), sums.new_empty(0)


FUNCTIONS[_sigmoid_sums._sigmoid_sums] = _own
FUNCTIONS[_sigmoid_loss._sigmoid_loss] = _own_loss
