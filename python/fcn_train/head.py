"""The two ways from images to a loss and to confusion counts, ``--head``.

``fused`` reads both from the network's coarse scores. ``materialised`` writes the logits of every
pixel first, as is done without the operators: the same numbers up to rounding, to compare with.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import FCN
from fcn_train.data import IGNORE_INDEX
from fcn_train.options import Head


def summed_loss(
    head: Head, model: FCN, images: Tensor, target: Tensor, weight: Tensor | None
) -> Tensor:
    """The sum, over the valid pixels of ``target`` (N, H, W) uint8, of the cross-entropy."""
    if head == "fused":
        return model.loss(images, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return F.cross_entropy(
        model(images), target.long(), weight, ignore_index=IGNORE_INDEX, reduction="sum"
    )


def add_counts(
    head: Head, model: FCN, images: Tensor, target: Tensor, matrix: ConfusionMatrix
) -> None:
    """Add the pairs of ``target`` (N, H, W) and predicted class to ``matrix``."""
    if head == "fused":
        model.evaluate(images, target, matrix)
    else:
        matrix.update(model(images), target)
