"""The training loss: cross-entropy over the valid pixels, and the weights of the classes in it.

``--logits coarse`` takes it straight from the network's coarse scores. ``--logits full`` writes
the logits of every pixel first, as is done without the operators: the same numbers up to rounding,
to compare with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.models import FCN, Head, MultiHeadFCN
from fcn_train.by_name import by_name
from fcn_train.data import IGNORE_INDEX, SegmentationDataset, dataset_statistics
from fcn_train.errors import UsageError
from fcn_train.heads import Net
from fcn_train.options import Logits


def pixel_loss(
    model: Net,
    images: Tensor,
    target: Any,
    reduction: str = "mean",
    weight: Any = None,
    logits: Logits = "coarse",
) -> Tensor:
    """Cross-entropy of ``model`` on ``images`` against ``target`` (N, H, W) uint8, 255 = void.

    Of a network of several heads, with ``target`` and ``weight`` by head: the sum of the heads'
    losses, each times its ``loss_weight`` (Long et al., section 5, "SIFT Flow").

    ``mean`` divides by the number of valid pixels of the batch (by the sum of their class weights
    where given; Caffe's ``normalize: true``) and is 0 for a batch without any. ``sum`` divides by
    N alone (Caffe's ``normalize: false``), so it is about ``H * W`` times the mean.
    """
    if not isinstance(model, MultiHeadFCN):
        total = summed_loss(model, images, target, weight, logits)
        return reduced(total, target, reduction, weight)
    weights = dict.fromkeys(model.heads) if weight is None else weight
    totals = summed_losses(model, images, target, weights, logits)
    losses = [
        cast(Head, head).loss_weight * reduced(totals[name], target[name], reduction, weights[name])
        for name, head in model.heads.items()
    ]
    return torch.stack(losses).sum()


def reduced(total: Tensor, target: Tensor, reduction: str, weight: Tensor | None) -> Tensor:
    """``total``, a sum over the valid pixels of ``target``, as ``pixel_loss`` says."""
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


def summed_losses(
    model: MultiHeadFCN,
    images: Tensor,
    target: Mapping[str, Tensor],
    weight: Mapping[str, Tensor | None],
    logits: Logits,
) -> dict[str, Tensor]:
    """``summed_loss`` of each head."""
    if logits == "coarse":
        given = {name: values for name, values in weight.items() if values is not None}
        return model.losses(images, target, weight=given, reduction="sum")
    return {
        name: F.cross_entropy(
            values,
            target[name].long(),
            weight[name],
            ignore_index=IGNORE_INDEX,
            reduction="sum",
        )
        for name, values in model(images).items()
    }


def weights_by_head(choice: str, dataset: SegmentationDataset, device: torch.device) -> Any:
    """``class_weights`` as ``pixel_loss`` takes them, by head where ``dataset`` has several sets
    of labels; ``choice`` is then one for all sets, or one for each: ``a=median-frequency,b=none``.

    Raises:
        UsageError: it is neither, or names a file for all sets.
    """
    if len(dataset.label_sets) == 1:
        return class_weights(choice, dataset, device)
    names = [labels.name for labels in dataset.label_sets]
    choices: Mapping[str, str] | None = dict.fromkeys(names, choice)
    if choice not in ("none", "median-frequency"):
        choices = by_name(choice)
    if choices is None or choices.keys() != set(names):
        example = ",".join([f"{names[0]}=weights.txt", *(f"{name}=none" for name in names[1:])])
        raise UsageError(
            "--optim.class-weights must be none, median-frequency or, for several sets of labels, "
            f"one of these or a file for each, such as {example}, got {choice!r}"
        )
    return {
        name: class_weights(choices[name], dataset.only(which), device)
        for which, name in enumerate(names)
    }


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
