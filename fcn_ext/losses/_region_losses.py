"""Dice, Jaccard, Tversky and generalized Dice, built on ops.region_sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses._conventions import Convention
from fcn_ext.losses._regions import Regions, reduced_regions
from fcn_ext.ops import _common


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
    group: Any = None,
) -> Tensor:
    """Soft Dice loss of softmax probabilities, ``1 - 2 I / (P + T)``, from coarse scores.

    For each class, ``P`` is the sum of its probability over all pixels, ``T`` the number of its
    pixels and ``I`` the sum of its probability over these; void pixels do not count. Milletari et
    al., "V-Net", section 3, has the squared form: ``P`` sums squared probabilities. Nothing with
    classes is stored at full size. The sums are float64, so that half scores lose no precision.

        >>> import torch
        >>> scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, :, 32:] = 1
        >>> dice_loss(scores, target).item()                # 1 - 2 * 1024 / (2048 + 2048)
        0.5

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64; each in [0, C) or
            ``ignore_index``.
        geometry: how the scores reach the size of the target.
        convention: how sums are smoothed and averaged: "smp", "monai", "nnunet", "ultralytics" or a
            :class:`Convention` of your own.
        squared: whether ``P`` sums squared probabilities.
        log: ``-ln`` of the score instead of one minus it.
        class_weight: factors on the losses of the classes (C,), without gradient; the convention
            says what their mean is divided by.
        ignore_index: the value of void labels.
        reduction: "none", the loss of each image and class (N, C), or of each class (C,) if the
            convention sums over the batch; without class 0 if it leaves the background out. "sum"
            or "mean" of these.
        group: a process group (True: the default one) whose processes hold parts of one batch. If
            the convention sums over the batch, their sums are added. The mean of their gradients,
            which ``DistributedDataParallel`` takes, is then the gradient of the whole batch.

    Returns:
        float32, or float64 for float64 scores. Differentiable once with respect to ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.region_sums`.
        RuntimeError: ``class_weight``, or another weight, requires a gradient.
    """
    _check(reduction, log)
    regions = Regions(input, target, geometry, convention, squared, ignore_index, group)
    losses = regions.losses(*_dice(regions), log)
    return regions.reduced(losses, class_weight, reduction)


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
    group: Any = None,
) -> Tensor:
    """Soft Jaccard (IoU) loss of softmax probabilities, ``1 - I / (P + T - I)``.

    Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", 2016, for each class.

        >>> import torch
        >>> scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, :, 32:] = 1
        >>> round(jaccard_loss(scores, target).item(), 4)   # 1 - 1024 / 3072
        0.6667

    Sums, arguments, results and errors are those of :func:`dice_loss`.
    """
    _check(reduction, log)
    regions = Regions(input, target, geometry, convention, squared, ignore_index, group)
    union = regions.probability + regions.pixels - regions.intersection
    smoothing = regions.convention.jaccard_smoothing
    losses = regions.losses(regions.intersection, union, log, smoothing)
    return regions.reduced(losses, class_weight, reduction)


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
    group: Any = None,
) -> Tensor:
    """Tversky loss, ``1 - I / (I + alpha (P - I) + beta (T - I))``, and its focal form.

    ``P - I`` are a class's false positives, ``T - I`` its false negatives. Salehi et al., "Tversky
    loss function for image segmentation using 3D fully convolutional deep networks", section 2.1;
    with ``gamma``, Abraham and Khan, "A novel focal Tversky loss function", section 2.2, who write
    it as ``1 / gamma``. At 0.5, 0.5 and 1 this is Dice.

        >>> import torch
        >>> scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, :, 32:] = 1
        >>> tversky_loss(scores, target, alpha=0.3, beta=0.7).item()
        0.5

    Args:
        alpha: weight of false positives, >= 0 and finite.
        beta: weight of false negatives, >= 0 and finite.
        gamma: > 0 and finite, the power of the loss of each class, or of their mean if the
            convention says so (smp's). Unless it is one, negative losses, which ``squared`` can
            cause, count as zero.

    Other arguments, sums, results and errors are those of :func:`dice_loss`.
    """
    _check(reduction, log)
    alpha = _common.not_negative(alpha, "alpha")
    beta = _common.not_negative(beta, "beta")
    gamma = _common.positive(gamma, "gamma")
    regions = Regions(input, target, geometry, convention, squared, ignore_index, group)
    false_positives = regions.probability - regions.intersection
    false_negatives = regions.pixels - regions.intersection
    denominator = regions.intersection + alpha * false_positives + beta * false_negatives
    losses = regions.losses(regions.intersection, denominator, log)
    of_mean = regions.convention.power_of_mean and reduction == "mean"
    if not of_mean:
        losses = _power(losses, gamma)
    loss = regions.reduced(losses, class_weight, reduction)
    return _power(loss, gamma) if of_mean else loss


def generalized_dice_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weighting: str = "square",
    convention: str | Convention = "monai",
    ignore_index: int = 255,
    reduction: str = "mean",
    group: Any = None,
) -> Tensor:
    """Generalized Dice loss, ``1 - 2 sum(w I) / sum(w (P + T))`` with sums over classes.

    Small classes have more weight: ``w`` is ``1 / T^2`` ("square"), ``1 / T`` ("simple") or one
    ("uniform"); a class without a pixel gets the greatest weight of the others. Sudre et al.,
    "Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations",
    section 2.1, as MONAI has it.

        >>> import torch
        >>> scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, :, 32:] = 1
        >>> generalized_dice_loss(scores, target, weighting="uniform").item()
        0.5

    Args:
        weighting: "square", "simple" or "uniform".
        reduction: "none", of each image (N,), or (1,) where the convention sums over the batch;
            "sum" or "mean" of these.

    Other arguments, sums, results and errors are those of :func:`dice_loss`.
    """
    _check(reduction)
    _common.one_of(weighting, ("square", "simple", "uniform"), "weighting")
    regions = Regions(input, target, geometry, convention, False, ignore_index, group)
    weight = torch.ones_like(regions.pixels)
    if weighting != "uniform":
        power = 2 if weighting == "square" else 1
        present = regions.pixels > 0
        weight = torch.where(present, regions.pixels.clamp(min=1) ** -power, 0)
        weight = torch.where(present, weight, weight.amax(dim=1, keepdim=True))
    numerator, denominator = ((weight * part).sum(1, keepdim=True) for part in _dice(regions))
    losses = regions.losses(numerator, denominator, False, absent=True)[:, 0]
    return reduced_regions(losses.to(regions.dtype), reduction)


def dice_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
    weight: Tensor | None = None,
    convention: str | Convention = "smp",
    squared: bool = False,
    log: bool = False,
    class_weight: Tensor | None = None,
    ignore_index: int = 255,
    group: Any = None,
) -> Tensor:
    """Weighted sum of :func:`dice_loss` and the cross-entropy, in one pass over the scores.

    The usual compound loss of nnU-Net, MONAI (``DiceCELoss``) and ultralytics. The cross-entropy is
    the mean over pixels that are not void, weighted by ``weight``; zero if there are none.

        >>> import torch
        >>> scores, target = torch.zeros(1, 4, 8, 8), torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> round(dice_cross_entropy_loss(scores, target, convention="ultralytics").item(), 4)
        2.2855

    Args:
        dice_weight, cross_entropy_weight: factors on the two, finite.
        weight: weights of classes in the cross-entropy (C,), without gradient.
        class_weight: factors on the Dice losses of the classes (C,), without gradient.

    Other arguments, results and errors are those of :func:`dice_loss`.
    """
    _check(log=log)
    dice_weight = _common.finite(dice_weight, "dice_weight")
    cross_entropy_weight = _common.finite(cross_entropy_weight, "cross_entropy_weight")
    regions = Regions(
        input, target, geometry, convention, squared, ignore_index, group, weight, with_loss=True
    )
    losses = regions.losses(*_dice(regions), log)
    dice = regions.reduced(losses, class_weight, "mean")
    return dice_weight * dice + cross_entropy_weight * regions.cross_entropy()


def _check(reduction: Any = "mean", log: Any = False) -> None:
    _common.one_of(reduction, ("none", "mean", "sum"), "reduction")
    _common.flag(log, "log")


def _dice(regions: Regions) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of Dice."""
    return 2 * regions.intersection, regions.probability + regions.pixels


def _power(loss: Tensor, gamma: float) -> Tensor:
    """``loss ** gamma``, with a slope of zero at zero, where the slope of a root is infinite."""
    if gamma == 1:
        return loss
    positive = loss > 0
    return torch.where(positive, torch.where(positive, loss, 1) ** gamma, 0)
