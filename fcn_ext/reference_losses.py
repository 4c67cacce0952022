"""Every loss of :mod:`fcn_ext.losses` in plain PyTorch, as :mod:`fcn_ext.reference` has the
operators: the specification that tests and benchmarks compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import reference
from fcn_ext._reference_regions import (
    dice_cross_entropy_loss,
    dice_loss,
    generalized_dice_loss,
    jaccard_loss,
    tversky_loss,
)
from fcn_ext.geometry import Geometry, Resize

__all__ = [
    "cross_entropy",
    "deep_supervision",
    "dice_cross_entropy_loss",
    "dice_loss",
    "distillation_loss",
    "focal_loss",
    "generalized_dice_loss",
    "jaccard_loss",
    "ohem_cross_entropy",
    "pixel_accuracy",
    "sigmoid_cross_entropy",
    "sigmoid_dice_loss",
    "sigmoid_focal_loss",
    "tversky_loss",
]


def _reduced(loss: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """A map of losses, reduced over the pixels that ``counts`` marks."""
    loss = torch.where(counts, loss, 0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return loss.sum() / max(1, loss.numel() if reduction == "mean_all" else int(counts.sum()))


def cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    reduction: str = "mean",
    return_accuracy: bool = False,
    ignore_index: int = 255,
    **options: Any,
) -> Any:
    """``F.cross_entropy`` of the scores at full size; "mean_all" divides by all pixels."""
    options = {"ignore_index": ignore_index, **options}
    if reduction == "mean_all":
        total = reference.cross_entropy(input, target, geometry, reduction="sum", **options)
        loss = total / max(1, target.numel())
    else:
        loss = reference.cross_entropy(input, target, geometry, reduction=reduction, **options)
    if not return_accuracy:
        return loss
    return loss, pixel_accuracy(input, target, geometry, ignore_index=ignore_index)


def pixel_accuracy(
    input: Tensor, target: Tensor, geometry: Geometry = Resize(), *, ignore_index: int = 255
) -> Tensor:
    """The share of pixels whose label has the greatest score."""
    size = (target.shape[1], target.shape[2])
    winner = reference.at_full_size(input, size, geometry).argmax(dim=1)
    target = target.to(torch.int64)
    counts = target != ignore_index
    return (winner[counts] == target[counts]).to(input.dtype).mean()


def focal_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``-alpha[y] (1 - p_y)^gamma ln p_y`` of the softmax at full size."""
    target = target.to(torch.int64)
    size = (target.shape[1], target.shape[2])
    counts = target != ignore_index
    labels = torch.where(counts, target, 0).unsqueeze(1)
    log_p = reference.at_full_size(input, size, geometry).log_softmax(1).gather(1, labels)
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    if alpha is not None:
        loss = loss * alpha.to(loss.dtype)[labels]
    return _reduced(loss.squeeze(1), counts, reduction)


def ohem_cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    threshold: float | None = 0.9,
    min_kept: float = 131072,
    per_image: bool = False,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """Sorts the probabilities of the labels to find which are kept."""
    target = target.to(torch.int64)
    counts = target != ignore_index
    options: dict[str, Any] = {"ignore_index": ignore_index, "reduction": "none"}
    hardness = reference.cross_entropy(input.detach(), target, geometry, **options)
    kept = torch.zeros_like(counts)
    for image in range(len(target)) if per_image else [slice(None)]:
        sorted_ones = hardness[image][counts[image]].sort(descending=True).values
        valid = len(sorted_ones)
        k = math.floor(valid * min_kept) if isinstance(min_kept, float) else min(valid, min_kept)
        least = sorted_ones[k - 1] if k > 0 else math.inf
        limit = -math.log(threshold) if threshold else math.inf
        kept[image] = counts[image] & ((hardness[image] > limit) | (hardness[image] >= least))
    loss = reference.cross_entropy(input, target, geometry, weight=weight, **options)
    return _reduced(loss, kept, reduction)


def deep_supervision(
    heads: Sequence[tuple[Any, ...]],
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    loss: Callable[..., Tensor] = cross_entropy,
    **options: Any,
) -> Tensor:
    """The weighted sum of the losses of all heads."""
    parts = [
        weight * loss(scores, target, *(own or [geometry]), **options)
        for scores, weight, *own in heads
    ]
    return torch.stack(parts).sum(0)


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    size: tuple[int, int],
    geometry: Geometry = Resize(),
    *,
    temperature: float = 1.0,
    target: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``F.kl_div`` of the softmaxes at full size."""
    ours, theirs = (
        (reference.at_full_size(scores, size, geometry) / temperature).log_softmax(1)
        for scores in (student, teacher.detach())
    )
    loss = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1) * temperature**2
    counts = torch.ones_like(loss, dtype=torch.bool) if target is None else target != ignore_index
    if reduction == "batchmean":
        return _reduced(loss, counts, "sum") / max(1, len(student))
    return _reduced(loss, counts, reduction)


def _masks(
    input: Tensor, target: Tensor, geometry: Geometry, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and which of them count, (N, Q, H, W)."""
    if target.dim() == 3:
        target = target.unsqueeze(1)
    counts = torch.ones_like(target, dtype=torch.bool)
    if not target.is_floating_point():
        counts = target.to(torch.int64) != ignore_index
    logits = reference.at_full_size(input, (target.shape[2], target.shape[3]), geometry)
    return logits, torch.where(counts, target.to(logits.dtype), 0), counts


def _reduced_masks(loss: Tensor, counts: Tensor, reduction: str, target: Tensor) -> Tensor:
    loss = torch.where(counts, loss, 0)
    pixels = counts.sum((2, 3))
    if reduction == "mean_masks":
        return (loss.sum((2, 3)) / pixels.clamp(min=1)).sum() / max(1, pixels.numel())
    if reduction == "none":
        return loss.sum((2, 3))
    if reduction == "pixels":
        return loss.view(target.shape)
    return loss.sum() if reduction == "sum" else loss.sum() / max(1, int(pixels.sum()))


def sigmoid_cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    pos_weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``F.binary_cross_entropy_with_logits`` of the scores at full size."""
    logits, wanted, counts = _masks(input, target, geometry, ignore_index)
    if pos_weight is not None:
        pos_weight = pos_weight.to(logits.dtype).reshape(-1, 1, 1)
    loss = F.binary_cross_entropy_with_logits(
        torch.where(counts, logits, 0), wanted, pos_weight=pos_weight, reduction="none"
    )
    return _reduced_masks(loss, counts, reduction, target)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """Lin et al., equation 5, as torchvision writes it."""
    logits, wanted, counts = _masks(input, target, geometry, ignore_index)
    logits = torch.where(counts, logits, 0)
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p = logits.sigmoid()
    loss = loss * (p * (1 - wanted) + (1 - p) * wanted) ** gamma
    if alpha is not None:
        loss = loss * (alpha * wanted + (1 - alpha) * (1 - wanted))
    return _reduced_masks(loss, counts, reduction, target)


def sigmoid_dice_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    smooth: float = 1.0,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """One minus the Dice coefficient of sigmoids and masks, both smoothed."""
    logits, wanted, counts = _masks(input, target, geometry, ignore_index)
    p = torch.where(counts, logits.sigmoid(), 0)
    overlap, both = ((p * wanted).sum((2, 3)), (p + wanted).sum((2, 3)))
    nothing = both + smooth == 0
    loss = 1 - (2 * overlap + smooth) / torch.where(nothing, 1, both + smooth)
    loss = torch.where(nothing, 0, loss)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / max(1, loss.numel())
