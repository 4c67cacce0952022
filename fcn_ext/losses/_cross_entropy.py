"""cross_entropy: the operator's, with the means of other libraries, and the accuracy beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels, _processes
from fcn_ext.ops import _common
from fcn_ext.ops._cross_entropy import cross_entropy_hits


def cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    return_accuracy: bool = False,
    group: Any = None,
) -> Any:
    """:func:`fcn_ext.ops.cross_entropy`, with one more mean, and the accuracy if asked for.

        >>> import torch
        >>> scores, target = torch.zeros(1, 4, 8, 8), torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, 32:] = 255
        >>> round(cross_entropy(scores, target, reduction="mean").item(), 4)
        1.3863
        >>> round(cross_entropy(scores, target, reduction="mean_all").item(), 4)
        0.6931

    Args:
        input, target, geometry, weight, ignore_index, label_smoothing: as in
            :func:`fcn_ext.ops.cross_entropy`.
        reduction: "none", "sum" or "mean", as there; or "mean_all", the sum divided by the number
            of all pixels, void ones included. That is mmsegmentation's mean, unless it has
            ``avg_non_ignore=True`` or class weights; by their sum it divides as "mean" does.
        return_accuracy: return :func:`pixel_accuracy` of the same scores, too, which is counted in
            the same pass over scores and labels. It covers only the pixels of this process, even
            with ``group``.
        group: a process group (True: the default one) whose processes hold parts of one batch, over
            which the means are taken. The mean of their gradients, which
            ``DistributedDataParallel`` takes, is then the gradient of the whole batch.

    Returns:
        The loss, or (loss, accuracy).

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`fcn_ext.ops.cross_entropy`.
    """
    _pixels.check_reduction(reduction)
    _common.flag(return_accuracy, "return_accuracy")
    group = _processes.of_group(group)
    own_mean = reduction == "mean" and group is None
    own_reduction = reduction if own_mean or reduction == "none" else "sum"
    if return_accuracy:
        arguments = (weight, ignore_index, own_reduction, label_smoothing)
        loss, hits = cross_entropy_hits(input, target, geometry, *arguments)
    else:
        loss = ops.cross_entropy(
            input,
            target,
            geometry,
            weight=weight,
            ignore_index=ignore_index,
            reduction=own_reduction,
            label_smoothing=label_smoothing,
        )
    if reduction == "mean_all":
        loss = _pixels.mean_all(loss, target, group)
    elif reduction == "mean" and not own_mean:
        void = _common.integer(ignore_index, "ignore_index")
        total_weight = _pixels.weight_of(target, void, weight)
        total_weight = _processes.counted(total_weight, group)
        loss = _pixels.over_weight(_processes.summed(loss, group), total_weight)
    if not return_accuracy:
        return loss
    counted, right = hits.to(_common.accumulate_dtype(input))
    return loss, right / counted


def pixel_accuracy(
    input: Tensor, target: Tensor, geometry: Geometry = Resize(), *, ignore_index: int = 255
) -> Tensor:
    """The share of pixels whose label has the greatest score; void pixels do not count.

    Counted as by :func:`fcn_ext.ops.score_confusion_matrix`. Without gradient; does not wait for
    the GPU.

        >>> import torch
        >>> scores = torch.zeros(1, 4, 8, 8)
        >>> pixel_accuracy(scores, torch.zeros(1, 64, 64, dtype=torch.uint8))   # of equal scores
        tensor(1.)

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64.
        geometry: how the scores reach the size of the target.
        ignore_index: the value of void labels.

    Returns:
        () float32, or float64 for float64 scores; NaN if every pixel is void.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above.
    """
    with torch.no_grad():
        matrix = ops.score_confusion_matrix(input, target, geometry, ignore_index=ignore_index)
        dtype = _common.accumulate_dtype(input)
        return matrix.diagonal().sum().to(dtype) / matrix.sum().to(dtype)
