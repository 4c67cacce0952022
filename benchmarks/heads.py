"""The fused heads, and the two lines that users would write instead, as functions to measure.

Each takes the workload and its coarse scores; losses and counts also take the target.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.counting import mask_bincount, torchmetrics_confusion, where_bincount
from benchmarks.workloads import Workload
from fcn_ext import losses, ops

# ------------------------------------------------------------------ loss


def project_upsample_loss(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return ops.upsample_cross_entropy(
        scores, target, w.case.stride, offset=w.case.offset, ignore_index=w.case.ignore_index
    )


def project_interpolate_loss(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return ops.interpolate_cross_entropy(scores, target, ignore_index=w.case.ignore_index)


def interpolate_loss(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    """Half scores are interpolated as they are and enter the loss in float32, as under autocast."""
    logits = torch_interpolate(w, scores).float()
    return F.cross_entropy(logits, target, ignore_index=w.case.ignore_index)


def project_accuracy(w: Workload, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the accuracy from the same pass."""
    loss, accuracy = losses.cross_entropy(
        scores, target, ignore_index=w.case.ignore_index, return_accuracy=True
    )
    return loss, accuracy


def project_two_passes(w: Workload, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    loss = project_interpolate_loss(w, scores, target)
    return loss, losses.pixel_accuracy(scores, target, ignore_index=w.case.ignore_index)


def interpolate_accuracy(w: Workload, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Counts as mmsegmentation does, without selecting the non-void pixels, whose number varies."""
    logits = torch_interpolate(w, scores)
    loss = F.cross_entropy(logits, target, ignore_index=w.case.ignore_index)
    with torch.no_grad():
        right = logits.argmax(dim=1) == target
        counts = target != w.case.ignore_index
        return loss, (right & counts).sum() / counts.sum()


def deconvolution_loss(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    logits = F.conv_transpose2d(
        scores, w.weight, stride=w.case.stride, padding=w.case.offset, groups=scores.shape[1]
    )
    return F.cross_entropy(logits.float(), target, ignore_index=w.case.ignore_index)


def project_sigmoid_loss(w: Workload, scores: Tensor, masks: Tensor) -> Tensor:
    return losses.sigmoid_cross_entropy(scores, masks)


def interpolate_sigmoid_loss(w: Workload, scores: Tensor, masks: Tensor) -> Tensor:
    """Takes targets that are float32 already."""
    return F.binary_cross_entropy_with_logits(torch_interpolate(w, scores), w.float_masks)


# ------------------------------------------------------------------ labels and counts


def project_argmax(w: Workload, scores: Tensor) -> Tensor:
    return ops.interpolate_argmax(scores, w.case.size)


def interpolate_argmax(w: Workload, scores: Tensor) -> Tensor:
    return torch_interpolate(w, scores).argmax(dim=1)


def project_counts(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return ops.interpolate_confusion_matrix(scores, target, ignore_index=w.case.ignore_index)


def interpolate_counts(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return mask_bincount(w, interpolate_argmax(w, scores), target)


def interpolate_where_counts(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return where_bincount(w, interpolate_argmax(w, scores), target)


def interpolate_torchmetrics(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    counts: Tensor = torchmetrics_confusion(w, interpolate_argmax(w, scores), target)
    return counts


def torch_interpolate(w: Workload, scores: Tensor) -> Tensor:
    return F.interpolate(scores, size=w.case.size, mode="bilinear")
