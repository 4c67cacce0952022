"""Losses with a sigmoid: for one class, for several labels per pixel, for masks of queries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import _mask_rules, _rules, ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels
from fcn_ext.losses._mask_pixels import MaskPixels
from fcn_ext.losses._regions import share
from fcn_ext.ops import _common

_REDUCTIONS = ("none", "sum", "mean", "mean_masks", "pixels")


def sigmoid_cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    pos_weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``F.binary_cross_entropy_with_logits`` at the size of ``target``, from coarse scores.

    For one class, several labels per pixel, or the masks of queries. Replaces::

        logits = F.interpolate(scores, target.shape[2:], mode="bilinear")
        loss = F.binary_cross_entropy_with_logits(logits, target.float())

    The target may stay bool or uint8; pixels of integer targets may be void.

        >>> import torch
        >>> scores = torch.zeros(2, 1, 32, 32, requires_grad=True)
        >>> target = torch.randint(0, 2, (2, 256, 256), dtype=torch.uint8)
        >>> loss = sigmoid_cross_entropy(scores, target)
        >>> loss.backward()
        >>> round(loss.item(), 4)                                          # ln 2
        0.6931

    Args:
        input: coarse scores (N, Q, h, w), float32, float64, float16 or bfloat16, any strides.
        target: (N, Q, H, W), or (N, H, W) where Q is 1. Bool or integers: 0, 1 or
            ``ignore_index``. Floating point: in [0, 1], none of it void.
        geometry: how the scores reach the size of the target.
        pos_weight: (Q,) or (), factor on the loss of pixels whose target is one, without gradient.
        ignore_index: the value of void pixels in integer targets.
        reduction: "mean", over the pixels of all masks that are not void; "sum"; "none", the sum of
            each mask (N, Q), so that nothing is stored at full size; "mean_masks", the mean over
            masks of the mean over their pixels; or "pixels", a map as large as the target, zero
            where void, which is torch's "none". A mean over nothing is zero, and a mask that is
            entirely void counts as zero. If a score is plus infinity, "pixels" gives NaN; the other
            reductions give the limit of the loss.

    Returns:
        (), (N, Q) for reduction "none", or a map of the target's shape for "pixels": float32, or
        float64 for float64 scores. Differentiable once with respect to ``input``, and with "pixels"
        also with respect to a floating-point target.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.sigmoid_sums`.
        RuntimeError: ``pos_weight`` requires a gradient, or ``target`` does and ``reduction`` is
            not "pixels".
    """
    _check_reduction(reduction)
    of_masks = _four_sizes(input, target)
    weight = None if pos_weight is None else _weight(pos_weight, input)
    if reduction == "pixels":
        pixels = MaskPixels(input, of_masks, geometry, ignore_index)
        return pixels.cross_entropy(weight).view(target.shape)
    of_sums = _sum_weight(input, _mask_rules.CROSS_ENTROPY, 1.0 if weight is None else weight, 1.0)
    loss, sums = ops.sigmoid_loss(input, of_masks, of_sums, geometry, ignore_index=ignore_index)
    return _reduced(loss, sums[..., _mask_rules.COUNT], reduction)


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
    """Sigmoid focal loss at the size of ``target``, from coarse scores.

    Lin et al., "Focal Loss for Dense Object Detection", equation 5: the cross-entropy of a pixel
    times ``(1 - p_t) ** gamma``, and times ``alpha`` if its target is one, ``1 - alpha`` if it is
    zero. torchvision's, and with ``reduction="mean_masks"`` SAM's and Mask2Former's.

        >>> import torch
        >>> masks = torch.zeros(1, 3, 64, 64, dtype=torch.bool)
        >>> loss = sigmoid_focal_loss(torch.zeros(1, 3, 16, 16), masks, alpha=None)
        >>> round(loss.item(), 4)                                          # ln 2 / 4
        0.1733

    Args:
        input, geometry, ignore_index, reduction: as in :func:`sigmoid_cross_entropy`.
        target: as there, bool or integers.
        gamma: >= 0 and finite; at zero this is the cross-entropy, weighted by ``alpha``.
        alpha: in [0, 1]; None leaves it out.

    Returns:
        As :func:`sigmoid_cross_entropy`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.sigmoid_sums`.
    """
    _check_reduction(reduction)
    gamma = _common.not_negative(gamma, "gamma")
    if alpha is not None:
        alpha = _common.number(alpha, "alpha")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1] or None, got {alpha:g}")
    of_masks = _four_sizes(input, target)
    if reduction == "pixels":
        pixels = MaskPixels(input, of_masks, geometry, ignore_index, gamma)
        return pixels.focal(alpha).view(target.shape)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    of_sums = _sum_weight(input, _mask_rules.FOCAL, positive, negative)
    loss, sums = ops.sigmoid_loss(
        input, of_masks, of_sums, geometry, ignore_index=ignore_index, gamma=gamma
    )
    return _reduced(loss, sums[..., _mask_rules.COUNT], reduction)


def sigmoid_dice_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    smooth: float = 1.0,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """Dice loss of masks at the size of ``target``, from coarse scores.

    ``1 - (2 * sum(p * t) + smooth) / (sum(p) + sum(t) + smooth)`` of each mask, ``p`` the sigmoid
    of the logits: DETR's (Carion et al., "End-to-End Object Detection with Transformers",
    appendix), MaskFormer's and SAM's.

        >>> import torch
        >>> masks = torch.ones(1, 3, 64, 64, dtype=torch.bool)
        >>> round(sigmoid_dice_loss(torch.zeros(1, 3, 16, 16), masks).item(), 2)    # 1 - 1 / 1.5
        0.33

    Args:
        input, target, geometry, ignore_index: as in :func:`sigmoid_cross_entropy`.
        smooth: what is added to numerator and denominator, >= 0 and finite. With zero, an empty
            mask that is predicted to be empty has no loss.
        reduction: "mean" over masks, "sum", or "none": (N, Q).

    Returns:
        (), or (N, Q) for reduction "none": float32, or float64 for float64 scores. Differentiable
        once with respect to ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.sigmoid_sums`.
        RuntimeError: ``target`` requires a gradient.
    """
    _common.one_of(reduction, ("none", "sum", "mean"), "reduction")
    smooth = _common.not_negative(smooth, "smooth")
    sums = ops.sigmoid_sums(
        input, _four_sizes(input, target), geometry, ignore_index=ignore_index, regions=True
    )
    present = sums[..., _mask_rules.PRESENT].detach()
    probability, overlap = sums[..., _mask_rules.PROBABILITY], sums[..., _mask_rules.OVERLAP]
    numerator, denominator = 2 * overlap + smooth, probability + present + smooth
    loss = 1 - (numerator / denominator if smooth != 0 else share(numerator, denominator))
    if reduction == "none":
        return loss
    total = _pixels.total_of(loss)
    return total if reduction == "sum" else total / max(1, loss.numel())


def _check_reduction(reduction: Any) -> None:
    _common.one_of(reduction, _REDUCTIONS, "reduction")


def _four_sizes(input: Tensor, target: Tensor) -> Tensor:
    """The target as (N, Q, H, W); for one class it may lack Q."""
    _rules.check_map(_common.is_map(input, "input"), "input")
    if _common.is_tensor(target, "target").dim() != 3:
        return target
    if input.shape[1] != 1:
        raise ValueError(
            f"target must have shape (N, Q, H, W) unless input has one channel, got "
            f"{tuple(target.shape)} and {tuple(input.shape)}"
        )
    return target.unsqueeze(1)


def _weight(pos_weight: Tensor, input: Tensor) -> Tensor:
    _common.weights(pos_weight, "pos_weight", input)
    if pos_weight.dim() != 0 and pos_weight.shape != (input.shape[1],):
        raise ValueError(
            f"pos_weight must have shape (Q,) = ({input.shape[1]},) or (), "
            f"got {tuple(pos_weight.shape)}"
        )
    return pos_weight.detach().to(_common.accumulate_dtype(input))


def _sum_weight(input: Tensor, column: int, positive: Tensor | float, negative: float) -> Tensor:
    """The weights of sigmoid_loss for the sum in ``column`` and the next one; zero for all
    others."""
    shape = (input.shape[1], _mask_rules.SIGMOID_SUMS)
    table = torch.zeros(shape, dtype=_common.accumulate_dtype(input), device=input.device)
    if not isinstance(positive, Tensor):
        table[:, column] = positive
        table[:, column + 1] = negative
        return table
    # Not in place, which vmap refuses if only the weights are batched.
    columns = list(table.unbind(-1))
    columns[column : column + 2] = [columns[column] + positive, columns[column + 1] + negative]
    return torch.stack(columns, -1)


def _reduced(loss: Tensor, count: Tensor, reduction: str) -> Tensor:
    """The sums of masks (N, Q), reduced as ``reduction`` says."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        return _pixels.total_of(loss)
    if reduction == "mean_masks":
        return _pixels.total_of(loss / count.clamp(min=1)) / max(1, loss.numel())
    # In float64, so that the counts of many masks are added exactly.
    return _pixels.total_of(loss) / count.sum(dtype=torch.float64).clamp(min=1).to(loss.dtype)
