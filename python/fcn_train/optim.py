"""Parameter groups, the optimizer and the learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fcn_train.options import OptimOptions

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: nn.Module, options: OptimOptions) -> list[dict[str, Any]]:
    """Weights; biases of convolutions (twice the rate, no decay, as published); normalization.

    Scale and shift of a normalization take the plain rate and no decay.
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
