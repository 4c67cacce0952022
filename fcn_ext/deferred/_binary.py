"""``F.binary_cross_entropy_with_logits`` straight from coarse scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn._reduction import legacy_get_string

from fcn_ext import _mask_rules
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._losses import REDUCTIONS, all_finite, is_finite
from fcn_ext.deferred._mask_pixels import gradient_by_labels, losses_by_labels
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_of
from fcn_ext.deferred._sigmoid import Sums, computed_sums
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits
from fcn_ext.losses._mask_pixels import NO_VOID
from fcn_ext.ops import _common

aten = torch.ops.aten


@dataclass(frozen=True)
class _Entropy:
    """The form of the mean of the cross-entropy, or of its sum. Weights broadcast to the logits,
    and are the same for all pixels of a mask."""

    layout: Layout
    reduction: str
    contiguous_gradient = False

    @property
    def _sums(self) -> Sums:
        return Sums(self.layout, NO_VOID, None, False)

    def plain(
        self, logits: Tensor, target: Any, weight: Any, pos_weight: Any = None, *rest: Any
    ) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, target, weight, pos_weight=pos_weight, reduction=self.reduction
        )

    def coarse(
        self, logits: Any, grad: Tensor, target: Any, weight: Any, pos_weight: Any = None, *_: Any
    ) -> Tensor | None:
        if not is_finite(grad):
            return None
        masks = self.layout.to_full_map(target)
        shares = self._shares(masks, target.shape, weight, pos_weight)
        shares *= grad.to(shares.dtype)
        if not is_finite(shares):  # overflowed
            return None
        if self.reduction == "mean":
            shares /= target.numel()
        return self._sums.coarse(logits, shares, masks)

    def loss(self, logits: Any, target: Tensor, weight: Any, pos_weight: Any) -> Tensor | None:
        masks = self.layout.to_full_map(target)
        sums = computed_sums(logits, masks, self._sums)
        if sums is None:
            return None
        with torch.no_grad():
            loss = (sums * self._shares(masks, target.shape, weight, pos_weight)).sum()
        # Then gradients are not finite either; torch's formula says which.
        if loss.is_cpu and not math.isfinite(loss.item()):
            return None
        result: Tensor = loss / target.numel() if self.reduction == "mean" else loss
        return result.to(logits.dtype)

    def _shares(self, masks: Tensor, shape: torch.Size, weight: Any, pos_weight: Any) -> Tensor:
        """How much each sum of each mask counts, (N, Q, 8)."""
        dtype, column = _common.accumulate_dtype(masks), _mask_rules.CROSS_ENTROPY
        shares = masks.new_zeros((*masks.shape[:2], _mask_rules.SIGMOID_SUMS), dtype=dtype)
        shares[..., column : column + 2] = 1
        for given, last in ((weight, column + 2), (pos_weight, column + 1)):
            of_masks = _of_masks(given, self.layout, shape)
            if of_masks is not None and of_masks[0] is not None:
                shares[..., column:last] *= of_masks[0].to(dtype).unsqueeze(-1)
        return shares


@dataclass(frozen=True)
class _Pixels:
    """The form of the cross-entropy of each pixel; target and ``pos_weight`` are laid out as the
    logits."""

    layout: Layout
    contiguous_gradient = False

    def plain(
        self, logits: Tensor, target: Any, pos_weight: Tensor | None = None, *rest: Any
    ) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=pos_weight, reduction="none"
        )

    def coarse(
        self, logits: Any, grad: Tensor, target: Any, pos_weight: Tensor | None = None, *rest: Any
    ) -> Tensor | None:
        found = scores_of(logits)
        if found is None or not is_finite(grad):
            return None
        _, snapshot, scores = found
        labels, share = _labels(self.layout, target, pos_weight)
        of_pixels = self.layout.to_full_map(grad)
        if share is not None:
            of_pixels = of_pixels.to(share.dtype) * share
        return gradient_by_labels(of_pixels.flatten(0, 1), scores, snapshot, labels, NO_VOID)

    def losses(self, logits: Any, target: Tensor, pos_weight: Tensor | None) -> Tensor | None:
        found = scores_of(logits)
        if found is None:
            return None
        _, snapshot, scores = found
        labels, share = _labels(self.layout, target, pos_weight)
        loss = losses_by_labels(scores, snapshot, labels, NO_VOID)
        total = loss.view(*scores.shape[:2], *loss.shape[1:])
        if share is not None:
            total.mul_(share)
        if total.is_cpu and not all_finite(total):
            return None
        if self.layout.is_map and target.is_contiguous() and total.dtype == target.dtype:
            whole: Tensor = aten._unsafe_view.default(total, target.shape)  # no view
            return whole
        result = torch.empty_like(target)
        return result.copy_(self.layout.from_full_map(total, target.shape))


def _labels(
    layout: Layout, target: Tensor, pos_weight: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Labels (N * Q, H, W), and the weight of a pixel's loss by them (N, Q, H, W), or None for
    one."""
    labels = layout.to_full_map(target).to(torch.uint8).flatten(0, 1)
    if pos_weight is None:
        return labels, None
    t = layout.to_full_map(target).to(_common.accumulate_dtype(target))
    return labels, 1 + (layout.to_full_map(pos_weight.expand(target.shape)) - 1) * t


def _bce(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """``F.binary_cross_entropy_with_logits``."""
    legacy = size_average is not None or reduce is not None
    if legacy:
        reduction = legacy_get_string(size_average, reduce, emit_warning=False)
    loss = _loss(input, target, weight, reduction, pos_weight)
    if legacy and loss is not NotImplemented:
        legacy_get_string(size_average, reduce)  # warns, as torch does
    return loss


def _loss(input: Any, target: Any, weight: Any, reduction: str, pos_weight: Any) -> Any:
    if not isinstance(input, DeferredLogits) or input.recipe.kind != "logits":
        return NotImplemented
    if input.recipe.snapshot is None:  # its shape may have changed
        return NotImplemented
    if reduction not in REDUCTIONS:
        return NotImplemented
    if torch.is_autocast_enabled(input.device.type) and _becomes_float(input.device.type):
        input, target, weight, pos_weight = map(_float, (input, target, weight, pos_weight))
    if not _fits(input, target, input.shape) or target.shape != input.shape:
        return NotImplemented
    if not all(w is None or _fits(input, w, input.shape) for w in (weight, pos_weight)):
        return NotImplemented
    layout = input.recipe.layout
    of_masks = [_of_masks(w, layout, input.shape) for w in (weight, pos_weight)]
    if reduction == "none" or None in of_masks:
        return _by_pixels(input, target, weight, reduction, pos_weight)
    form = _Entropy(layout, reduction)
    differentiated, possible = may_be_one_node(input)
    loss = form.loss(input, target, weight, pos_weight) if possible else None
    if loss is None:
        return NotImplemented
    if not differentiated:
        return loss
    return OneNode.apply(input, form, [target, weight, pos_weight, input], [loss])


def _by_pixels(
    input: Any, target: Tensor, weight: Tensor | None, reduction: str, pos_weight: Tensor | None
) -> Any:
    """The loss if a map of it is asked for, or if the weights of a mask's pixels differ. Of a
    target between 0 and 1, each pixel would have the losses of both labels, which takes longer and
    no less memory than the logits do. On CUDA the host would wait to know."""
    if not target.is_cpu or not bool(((target == 0) | (target == 1)).all()):
        return NotImplemented
    form = _Pixels(input.recipe.layout)
    differentiated, possible = may_be_one_node(input)
    if not possible:
        return NotImplemented
    with torch.no_grad():
        losses = form.losses(input, target, pos_weight)
    if losses is None:
        return NotImplemented
    if differentiated:
        losses = OneNode.apply(input, form, [target, pos_weight, input], [losses])
    if weight is not None:
        losses = losses * weight
    return losses if reduction == "none" else getattr(losses, reduction)()


def _fits(input: Any, other: Any, shape: torch.Size) -> bool:
    """Whether ``other`` is an ordinary tensor that goes with the logits, and has no gradient."""
    if type(other) not in (Tensor, torch.nn.Parameter) or other.requires_grad:
        return False
    if other.dtype != input.dtype or other.device != input.device or other.dim() > len(shape):
        return False
    places = zip(reversed(other.shape), reversed(shape), strict=False)
    return all(size in (1, whole) for size, whole in places)


def _of_masks(
    weight: Tensor | None, layout: Layout, shape: torch.Size
) -> tuple[Tensor | None] | None:
    """A tuple of the weight of each mask (N, Q), or of None for one; None if a mask's pixels have
    different weights."""
    if weight is None:
        return (None,)
    map = layout.to_full_map(weight.expand(shape))
    alike = all(map.shape[axis] == 1 or map.stride(axis) == 0 for axis in (2, 3))
    return (map[:, :, 0, 0],) if alike else None


def _float(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if is_half else value


@lru_cache
def _becomes_float(device: str) -> bool:
    """Whether autocast takes this loss of half logits in float32 on such devices."""
    with torch.autocast(device, dtype=torch.bfloat16):
        pixel = torch.zeros(1, dtype=torch.bfloat16, device=device)
        return F.binary_cross_entropy_with_logits(pixel, pixel).dtype == torch.float32


FUNCTIONS[F.binary_cross_entropy_with_logits] = _bce
