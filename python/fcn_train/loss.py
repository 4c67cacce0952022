"""The training loss: cross-entropy over the valid pixels, and the weights of the classes in it.

``--logits coarse`` takes it straight from the network's coarse scores. ``--logits full`` writes
the logits of every pixel first, as is done without the operators: the same numbers up to rounding,
to compare with.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.models import FCN
from fcn_train.data import IGNORE_INDEX, SegmentationDataset, dataset_statistics
from fcn_train.errors import UsageError
from fcn_train.options import Logits


def pixel_loss(
    model: FCN,
    images: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    logits: Logits = "coarse",
) -> Tensor:
    """Cross-entropy of ``model`` on ``images`` against ``target`` (N, H, W) uint8, 255 = void.

    ``mean`` divides by the number of valid pixels of the batch (by the sum of their class weights
    where given; Caffe's ``normalize: true``) and is 0 for a batch without any. ``sum`` divides by
    N alone (Caffe's ``normalize: false``), so it is about ``H * W`` times the mean.
    """
    total = summed_loss(model, images, target, weight, logits)
    if reduction == "sum":
        return total / len(target)
    valid = target != IGNORE_INDEX
    if weight is None:
        return total / valid.sum().clamp_min(1)
    divisor = weight[target[valid].long()].sum()
    return total / torch.where(divisor > 0, divisor, 1.0)


def summed_loss(
    model: FCN, images: Tensor, target: Tensor, weight: Tensor | None, logits: Logits
) -> Tensor:
    """The sum of the cross-entropy over the valid pixels of ``target`` (N, H, W) uint8."""
    if logits == "coarse":
        return model.loss(images, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return F.cross_entropy(
        model(images), target.long(), weight, ignore_index=IGNORE_INDEX, reduction="sum"
    )


def class_weights(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Weights of the classes in the loss, (C,) float32: ``--optim.class-weights``."""
    if choice == "none":
        return None
    if choice == "median-frequency":
        weights = dataset_statistics(dataset).median_frequency_weights()
    else:
        weights = weights_from_file(Path(choice), dataset.num_classes)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def weights_from_file(path: Path, num_classes: int) -> np.ndarray:
    """One number per class: a JSON list, or text separated by white space or commas."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else text.replace(",", " ").split()
        weights = np.array(values, dtype=np.float64)
    except OSError as error:
        raise UsageError(f"{path}: class weights cannot be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise UsageError(f"{path}: class weights must be a list of numbers") from None
    if weights.shape != (num_classes,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise UsageError(
            f"{path}: class weights must be {num_classes} finite numbers >= 0, "
            f"got {weights.size} with minimum {weights.min(initial=np.inf):g}"
        )
    return weights
