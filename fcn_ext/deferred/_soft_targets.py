"""``F.cross_entropy`` with a probability for each class as the target, straight from coarse scores.

A pixel's loss is ``W * lse - <t, x>``: the logarithm of the sum of the exponentials of its logits
``x`` counts as often as its probabilities ``t`` do together, and the logits themselves are linear
in the scores. So what the targets say is brought to the nodes, once, as a gradient is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._layout import CLASSES, Layout
from fcn_ext.deferred._losses import all_finite, is_finite, pixel_gradient, weights_fit
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._tensor import ordinary
from fcn_ext.deferred._told import NO_VOID
from fcn_ext.ops._interpolate import _interpolate_backward

__all__ = ["soft_cross_entropy"]

_op = torch.ops.fcn_ext.cross_entropy_pixels.default


@dataclass(frozen=True)
class _SoftTargets:
    """The form of the loss. ``of_nodes`` and ``of_pixels`` are those of :func:`_shares`."""

    layout: Layout
    reduction: str
    label_smoothing: float
    contiguous_gradient = True

    def plain(self, logits: Tensor, target: Any, weight: Tensor | None, *_: Any) -> Tensor:
        smoothing = self.label_smoothing
        return F.cross_entropy(
            logits, target, weight, reduction=self.reduction, label_smoothing=smoothing
        )

    def coarse(self, logits: Any, grad: Tensor, *tensors: Tensor | None) -> Tensor | None:
        found = scores_over(logits, 1)
        if found is None or not is_finite(grad):
            return None
        _, snapshot, scores = found
        _, _, of_nodes, of_pixels = tensors
        assert of_nodes is not None
        assert of_pixels is not None
        each = grad / self.count(of_pixels)
        first = _first_class(scores, snapshot)
        of_sums = pixel_gradient(of_pixels * each, scores, snapshot, first, None, NO_VOID, 0.0)
        return of_sums - of_nodes * each

    def loss(
        self, scores: Tensor, snapshot: Snapshot, of_nodes: Tensor, of_pixels: Tensor
    ) -> Tensor:
        sums = _op(scores, _first_class(scores, snapshot), snapshot.numbers, None, NO_VOID, 0.0)
        total = -(of_nodes.double() * scores.double()).sum()
        # The loss is a difference. For sums in float64 torch copies what it sums, on the CPU.
        for part in sums.mul_(of_pixels).flatten().split(2**18):
            total += part.sum(dtype=torch.float64)
        return (total / self.count(of_pixels)).to(scores.dtype)

    def count(self, of_pixels: Tensor) -> int:
        return of_pixels.numel() if self.reduction == "mean" else 1


def _first_class(scores: Tensor, snapshot: Snapshot) -> Tensor:
    """The label 0 for each pixel, whose cross-entropy is the logarithm of the sum less the logits
    of the first class."""
    label = torch.zeros((1, 1, 1), dtype=torch.uint8, device=scores.device)
    return label.expand(len(scores), *snapshot.size)


def _weighted_sum(target: Tensor, weight: Tensor) -> Tensor:
    """The sum over the classes, without a copy of the target."""
    rows = target.movedim(CLASSES, -1)
    if rows.is_contiguous():  # as of one-hot labels
        with torch.autocast(target.device.type, enabled=False):
            weighted: Tensor = rows @ weight
            return weighted
    total = torch.zeros_like(target[:, 0])
    for plane, of_class in zip(target.unbind(CLASSES), weight, strict=True):
        total.addcmul_(plane, of_class)
    return total


def _shares(
    scores: Tensor, snapshot: Snapshot, target: Tensor, weight: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """What the targets (N, C, H, W), weighted and smoothed, say of the scores (N, C, h, w), less
    what the labels 0 say; and their sum over the classes (N, H, W)."""

    def to_nodes(map: Tensor) -> Tensor:
        aligned, *crop = snapshot.numbers
        nodes: Tensor = _interpolate_backward(map, *scores.shape[2:], bool(aligned), crop or None)
        return nodes

    of_nodes, classes = to_nodes(target), target.shape[CLASSES]
    if weight is None:
        of_pixels, of_all = target.sum(CLASSES), torch.ones_like(scores[0, :, 0, 0])
    else:
        of_pixels, of_all = _weighted_sum(target, weight), weight
        of_nodes = of_nodes * weight.view(-1, 1, 1)
    if smoothing > 0:
        of_pixels = (1 - smoothing) * of_pixels + smoothing * of_all.mean()
        evenly = to_nodes(torch.ones_like(of_pixels[:1, None])) * of_all.view(-1, 1, 1)
        of_nodes = (1 - smoothing) * of_nodes + smoothing / classes * evenly
    of_first = to_nodes(of_pixels.unsqueeze(CLASSES))
    of_nodes = torch.cat([of_nodes[:, :1] - of_first, of_nodes[:, 1:]], CLASSES)
    return of_nodes, of_pixels


def soft_cross_entropy(
    input: Any,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    """``F.cross_entropy`` of deferred logits, whose dimension 1 is the classes, or
    NotImplemented."""
    found = scores_over(input, 1)
    if found is None or found[0].kind != "logits" or reduction not in ("mean", "sum"):
        return NotImplemented
    if target.shape != input.shape or target.requires_grad or ignore_index >= 0:
        return NotImplemented
    target = ordinary(target)
    recipe, snapshot, scores = found
    if (
        type(target) not in (Tensor, torch.nn.Parameter)
        # Sums in half precision would lose what the plain code, which rounds each pixel, has.
        or input.dtype not in (torch.float32, torch.float64)
        or (target.dtype, target.device) != (input.dtype, input.device)
        or scores.shape[1] > MOST_CLASSES
        or not weights_fit(input, weight)
    ):
        return NotImplemented
    given = [target] if weight is None else [target, weight]
    differentiated, possible = may_be_one_node(input)
    if not possible or (input.is_cpu and not all(map(all_finite, given))):
        return NotImplemented
    form = _SoftTargets(recipe.layout, reduction, label_smoothing)
    with torch.no_grad():
        of_map = recipe.layout.to_full_map(target)
        shares = _shares(scores, snapshot, of_map, weight, label_smoothing)
        loss = form.loss(scores, snapshot, *shares)
    if loss.is_cpu and not math.isfinite(loss.item()):
        return NotImplemented
    if not differentiated:
        return loss
    return OneNode.apply(input, form, [target, weight, *shares], [loss])
