"""The losses of single pixels of masks, by the cross-entropy of two classes.

``softplus(-x)`` and ``softplus(x)``, the losses of a pixel that is to be one and zero, are those of
the scores ``[0, x]`` with the labels 1 and 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Geometry


def two_classes(scores: Tensor) -> Tensor:
    """Of each mask of (N, Q, h, w) the scores of its two classes, (N * Q, 2, h, w)."""
    # Not torch.cat, which autocast refuses in float16 on the CPU.
    return F.pad(scores.flatten(0, 1).unsqueeze(1), (0, 0, 0, 0, 1, 0))


def every_pixel(label: int, target: Tensor) -> Tensor:
    """One label for all pixels of a target (N, Q, H, W), as (N * Q, H, W) that take no memory."""
    shape = (target.shape[0] * target.shape[1], *target.shape[2:])
    return torch.tensor(label, dtype=torch.uint8, device=target.device).expand(shape)


def mask_pixel_losses(
    input: Tensor, target: Tensor, geometry: Geometry, ignore_index: int
) -> tuple[Tensor, Tensor | None]:
    """The cross-entropy of each pixel where its target is one, and where it is zero: two maps
    (N, Q, H, W), or one of both for targets that are bool or integers."""
    pairs = two_classes(input)

    def losses(labels: Tensor) -> Tensor:
        loss = ops.cross_entropy(
            pairs, labels, geometry, ignore_index=ignore_index, reduction="none"
        )
        return loss.view(target.shape)

    if not target.is_floating_point():
        labels = target.view(torch.uint8) if target.dtype == torch.bool else target
        return losses(labels.flatten(0, 1)), None
    return losses(every_pixel(1, target)), losses(every_pixel(0, target))
