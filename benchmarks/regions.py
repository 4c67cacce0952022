"""Dice, alone and with the cross-entropy, and what users would write instead.

Follows ultralytics' convention: over the batch, with one added on either side of the fraction.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.heads import torch_interpolate
from benchmarks.workloads import Workload
from fcn_ext import losses

CONVENTION = "ultralytics"


def project_dice(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return losses.dice_loss(scores, target, convention=CONVENTION, ignore_index=w.case.ignore_index)


def project_dice_cross_entropy(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return losses.dice_cross_entropy_loss(
        scores, target, convention=CONVENTION, ignore_index=w.case.ignore_index
    )


def one_hot_dice(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    """Sums as segmentation_models.pytorch and MONAI do."""
    return _one_hot(w, torch_interpolate(w, scores).float(), target)


def gather_dice(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    """Sums as ultralytics does, without one-hot labels."""
    return _gather(w, torch_interpolate(w, scores).float(), target)


def one_hot_dice_cross_entropy(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    logits = torch_interpolate(w, scores).float()
    return _one_hot(w, logits, target) + _cross_entropy(w, logits, target)


def gather_dice_cross_entropy(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    logits = torch_interpolate(w, scores).float()
    return _gather(w, logits, target) + _cross_entropy(w, logits, target)


def _cross_entropy(w: Workload, logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, ignore_index=w.case.ignore_index)


def dice_of(intersection: Tensor, probability: Tensor, pixels: Tensor) -> Tensor:
    """The loss from the sums of the classes."""
    return (1 - (2 * intersection + 1) / (probability + pixels + 1)).mean()


def _one_hot(w: Workload, logits: Tensor, target: Tensor) -> Tensor:
    valid = target != w.case.ignore_index
    labels = torch.where(valid, target, 0)
    one_hot = F.one_hot(labels, logits.shape[1]).movedim(3, 1) * valid[:, None]
    probability = logits.softmax(dim=1) * valid[:, None]
    dims = (0, 2, 3)
    return dice_of((probability * one_hot).sum(dims), probability.sum(dims), one_hot.sum(dims))


def _gather(w: Workload, logits: Tensor, target: Tensor) -> Tensor:
    valid = target != w.case.ignore_index
    labels = torch.where(valid, target, 0)
    probability = logits.softmax(dim=1) * valid[:, None]
    own = probability.gather(1, labels[:, None])
    zeros = torch.zeros(logits.shape[1], device=logits.device)
    intersection = zeros.scatter_add(0, labels.flatten(), own.flatten())
    pixels = zeros.scatter_add(0, labels.flatten(), valid.flatten().float())
    return dice_of(intersection, probability.sum((0, 2, 3)), pixels)
