"""The loss of each pixel of masks, straight from coarse scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.deferred._losses import is_finite, pixel_gradient
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_of
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits
from fcn_ext.losses import _mask_pixels
from fcn_ext.losses._mask_pixels import two_classes
from fcn_ext.ops import _common

__all__ = ["gradient_by_labels", "losses_by_labels"]

_op = torch.ops.fcn_ext.cross_entropy_pixels.default


def losses_by_labels(
    scores: Tensor, snapshot: Snapshot, labels: Tensor, ignore_index: int
) -> Tensor:
    """The losses of the pixels of masks, for labels 0, 1 and void (N * Q, H, W), in the shape of
    the labels."""
    losses: Tensor = _op(two_classes(scores), labels, snapshot.numbers, None, ignore_index, 0.0)
    return losses


def gradient_by_labels(
    grad: Tensor, scores: Tensor, snapshot: Snapshot, labels: Tensor, ignore_index: int
) -> Tensor:
    """The gradient of the scores, given the gradient ``grad`` of each of these losses."""
    pairs = two_classes(scores)
    of_pairs = pixel_gradient(grad, pairs, snapshot, labels, None, ignore_index, 0.0)
    return of_pairs[:, 1].view(scores.shape)


@dataclass(frozen=True)
class _ByLabels:
    """The form of :func:`fcn_ext.losses._mask_pixels.pixel_losses`."""

    ignore_index: int
    contiguous_gradient = False

    def plain(self, logits: Tensor, labels: Any, *rest: Any) -> Tensor:
        pairs = two_classes(logits.to(_common.accumulate_dtype(logits)))
        target = labels.to(torch.int64)
        return F.cross_entropy(pairs, target, ignore_index=self.ignore_index, reduction="none")

    def coarse(self, logits: Any, grad: Tensor, labels: Any, *rest: Any) -> Tensor | None:
        found = scores_of(logits)
        if found is None or not is_finite(grad):
            return None
        _, snapshot, scores = found
        return gradient_by_labels(grad, scores, snapshot, labels, self.ignore_index)


def _own(input: Any, labels: Any, geometry: Any, ignore_index: int) -> Any:
    """The losses of deferred logits that already have the size of the labels."""
    if not isinstance(input, DeferredLogits) or len(geometry.numbers) != 1:
        return NotImplemented
    if type(labels) is not Tensor or input.shape[2:] != labels.shape[1:]:
        return NotImplemented
    recipe = input.recipe
    found = scores_of(input) if recipe.kind == "logits" and recipe.layout.is_map else None
    differentiated, possible = may_be_one_node(input)
    if found is None or not possible:
        return NotImplemented
    _, snapshot, scores = found
    try:
        with torch.no_grad():
            losses = losses_by_labels(scores, snapshot, labels, ignore_index)
    except ValueError:
        return NotImplemented
    if not differentiated:
        return losses
    return OneNode.apply(input, _ByLabels(ignore_index), [labels], [losses])


FUNCTIONS[_mask_pixels.pixel_losses] = _own
