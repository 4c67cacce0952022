"""The region losses in plain PyTorch, which fcn_ext.reference_losses exports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import CONVENTIONS, Convention


def _regions(
    input: Tensor,
    target: Tensor,
    geometry: Geometry,
    convention: str | Convention,
    *,
    squared: bool = False,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor, Tensor, Convention]:
    """P, I and T of every region, (images or one, classes), and the convention."""
    how = CONVENTIONS[convention] if isinstance(convention, str) else convention
    logits = reference.at_full_size(input, (target.shape[1], target.shape[2]), geometry)
    counts = (target != ignore_index).unsqueeze(1)
    labels = torch.where(counts[:, 0], target.to(torch.int64), 0)
    one_hot = F.one_hot(labels, input.shape[1]).movedim(3, 1) * counts
    probability = torch.where(counts, logits, 0).softmax(1) * counts
    dims = (0, 2, 3) if how.over == "batch" else (2, 3)
    first = 0 if how.background or input.shape[1] == 1 else 1
    sums = (
        (probability**2 if squared else probability).sum(dims),
        (probability * one_hot).sum(dims),
        one_hot.sum(dims).to(logits.dtype),
    )
    p, i, t = (of.reshape(-1, input.shape[1])[:, first:] for of in sums)
    return p, i, t, how


def _score(numerator: Tensor, denominator: Tensor, how: Convention) -> Tensor:
    """The smoothed fraction; one of nothing."""
    whole = (denominator + how.smooth_denominator).clamp(min=how.least_denominator)
    nothing = whole == 0
    score = (numerator + how.smooth_numerator) / torch.where(nothing, 1, whole)
    return torch.where(nothing, 1, score)


def _losses_of_regions(
    numerator: Tensor,
    denominator: Tensor,
    pixels: Tensor,
    how: Convention,
    log: bool,
) -> Tensor:
    score = _score(numerator, denominator, how)
    loss = -score.clamp(min=how.least_denominator).log() if log else 1 - score
    if not how.absent:
        loss = torch.where(pixels > 0, loss, 0)  # not zero times what may be infinite
    return loss


def _reduced_regions(
    losses: Tensor, how: Convention, class_weight: Tensor | None, reduction: str
) -> Tensor:
    if class_weight is not None:
        weight = class_weight[-losses.shape[1] :].expand_as(losses)
        losses = losses * weight
        if how.normalize_weights and reduction == "mean":
            total = weight.sum()
            return losses.sum() / torch.where(total != 0, total, 1)
    if reduction == "none":
        return losses[0] if how.over == "batch" else losses
    return losses.sum() if reduction == "sum" else _mean(losses)


def _mean(losses: Tensor) -> Tensor:
    return losses.sum() / max(1, losses.numel())


def dice_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    convention: str | Convention = "smp",
    squared: bool = False,
    log: bool = False,
    class_weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``1 - 2 I / (P + T)``."""
    options: dict[str, Any] = {"squared": squared, "ignore_index": ignore_index}
    p, i, t, how = _regions(input, target, geometry, convention, **options)
    losses = _losses_of_regions(2 * i, p + t, t, how, log)
    return _reduced_regions(losses, how, class_weight, reduction)


def jaccard_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    convention: str | Convention = "smp",
    squared: bool = False,
    log: bool = False,
    class_weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``1 - I / (P + T - I)``."""
    options: dict[str, Any] = {"squared": squared, "ignore_index": ignore_index}
    p, i, t, how = _regions(input, target, geometry, convention, **options)
    smoothed = replace(
        how,
        smooth_numerator=how.jaccard_smoothing * how.smooth_numerator,
        smooth_denominator=how.jaccard_smoothing * how.smooth_denominator,
    )
    losses = _losses_of_regions(i, p + t - i, t, smoothed, log)
    return _reduced_regions(losses, how, class_weight, reduction)


def _power(losses: Tensor, gamma: float) -> Tensor:
    """``losses ** gamma``; a loss that ``squared`` makes negative counts as zero."""
    return losses if gamma == 1 else losses.clamp(min=0) ** gamma


def tversky_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    convention: str | Convention = "smp",
    squared: bool = False,
    log: bool = False,
    class_weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``(1 - I / (I + alpha (P - I) + beta (T - I))) ** gamma``."""
    options: dict[str, Any] = {"squared": squared, "ignore_index": ignore_index}
    p, i, t, how = _regions(input, target, geometry, convention, **options)
    denominator = i + alpha * (p - i) + beta * (t - i)
    losses = _losses_of_regions(i, denominator, t, how, log)
    if how.power_of_mean and reduction == "mean":
        return _power(_reduced_regions(losses, how, class_weight, reduction), gamma)
    return _reduced_regions(_power(losses, gamma), how, class_weight, reduction)


def generalized_dice_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weighting: str = "square",
    convention: str | Convention = "monai",
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``1 - 2 sum(w I) / sum(w (P + T))`` of each image, or of the batch."""
    p, i, t, how = _regions(input, target, geometry, convention, ignore_index=ignore_index)
    weight = {"square": t**-2, "simple": t**-1, "uniform": torch.ones_like(t)}[weighting]
    infinite = weight.isinf()
    most = torch.where(infinite, 0, weight).amax(1, keepdim=True).expand_as(weight)
    weight = torch.where(infinite, most, weight)
    losses = 1 - _score(2 * (weight * i).sum(1), (weight * (p + t)).sum(1), how)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else _mean(losses)


def dice_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    **options: Any,
) -> Tensor:
    """The weighted sum of the two."""
    dice = dice_loss(input, target, geometry, ignore_index=ignore_index, **options)
    entropy = reference.cross_entropy(
        input, target, geometry, weight=weight, ignore_index=ignore_index
    )
    # Zero over nothing; what is infinite stays so.
    return dice_weight * dice + cross_entropy_weight * entropy.nan_to_num(posinf=torch.inf)
