"""Loss scaling, parameter groups, learning-rate schedule and class weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fcn_ext.models import FCN
from fcn_train.data import IGNORE_INDEX, SegmentationDataset, dataset_statistics
from fcn_train.errors import UsageError
from fcn_train.head import summed_loss
from fcn_train.options import Head, OptimOptions

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def pixel_loss(
    model: FCN,
    images: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    head: Head = "fused",
) -> Tensor:
    """Cross-entropy of ``model`` on ``images`` against ``target`` (N, H, W) uint8, 255 = void.

    ``mean`` divides by the number of valid pixels of the batch (by the sum of their class weights
    where given; Caffe's ``normalize: true``) and is 0 for a batch without any. ``sum`` divides by
    N alone (Caffe's ``normalize: false``), so it is about ``H * W`` times the mean.
    """
    total = summed_loss(head, model, images, target, weight)
    if reduction == "sum":
        return total / len(target)
    valid = target != IGNORE_INDEX
    if weight is None:
        return total / valid.sum().clamp_min(1)
    divisor = weight[target[valid].long()].sum()
    return total / torch.where(divisor > 0, divisor, 1.0)


def parameter_groups(model: nn.Module, options: OptimOptions) -> list[dict[str, Any]]:
    """Weights; biases of convolutions (twice the rate, no decay, as published); normalisation.

    Scale and shift of a normalisation take the plain rate and no decay.
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, NORMS):
                norms.append(parameter)
            else:
                (biases if name == "bias" else weights).append(parameter)
    groups = [
        ("weights", weights, 1.0, 1.0),
        ("biases", biases, options.bias_lr, options.bias_decay),
        ("norms", norms, 1.0, 0.0),
    ]
    return [
        {
            "name": name,
            "params": parameters,
            "lr": options.lr * rate,
            "base_lr": options.lr * rate,
            "weight_decay": options.weight_decay * decay,
        }
        for name, parameters, rate, decay in groups
        if parameters
    ]


def build_optimizer(
    model: nn.Module, options: OptimOptions, device: torch.device
) -> torch.optim.SGD:
    """SGD with momentum. Caffe keeps lr inside its buffer: equal while lr is constant."""
    return torch.optim.SGD(
        parameter_groups(model, options),
        lr=options.lr,
        momentum=options.momentum,
        fused=options.fused and device.type in ("cpu", "cuda"),
    )


def lr_factor(step: int, steps: int, options: OptimOptions) -> float:
    """What the base rates are multiplied with at ``step`` of ``steps``, counted from 0."""
    factor = 1.0
    if options.schedule == "poly":
        factor = max(0.0, 1.0 - step / steps) ** options.power
    if step < options.warmup:
        factor *= (step + 1) / options.warmup
    return factor


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def loss_weights(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Weights of the classes in the loss, (C,) float32: ``--optim.class-weights``."""
    if choice == "none":
        return None
    if choice == "median-frequency":
        weights = dataset_statistics(dataset).median_frequency_weights()
    else:
        weights = weights_from_file(Path(choice), dataset.num_classes)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def weights_from_file(path: Path, num_classes: int) -> np.ndarray:
    """One number a class: a JSON list, or text separated by white space or commas."""
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
