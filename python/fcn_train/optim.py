"""Parameter groups, the optimizer and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from fcn_ext.models import Head
from fcn_train.optim_options import OptimOptions

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
ADAM_BETA2 = 0.999  # share of the mean squared gradient that each step keeps


def parameter_groups(model: nn.Module, options: OptimOptions) -> list[dict[str, Any]]:
    """Weights; biases of convolutions (twice the rate, no decay, as published); normalization.

    Scale and shift of a normalization take the plain rate and no decay. Score layers are in groups
    of their own where ``options.score_lr`` is not 1.
    """
    sorts = {
        "weights": (1.0, 1.0),
        "biases": (options.bias_lr, options.bias_decay),
        "norms": (1.0, 0.0),
        "score weights": (options.score_lr, 1.0),
        "score biases": (options.score_lr * options.bias_lr, options.bias_decay),
    }
    found: dict[str, list[nn.Parameter]] = {sort: [] for sort in sorts}
    apart = score_layers(model) if options.score_lr != 1 else set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            sort = "biases" if name == "bias" else "weights"
            if isinstance(module, NORMS):
                sort = "norms"
            elif module in apart:
                sort = f"score {sort}"
            found[sort].append(parameter)
    return [
        {
            "name": sort,
            "params": found[sort],
            "lr": options.lr * rate,
            "base_lr": options.lr * rate,
            "weight_decay": options.weight_decay * decay,
        }
        for sort, (rate, decay) in sorts.items()
        if found[sort]
    ]


def score_layers(model: nn.Module) -> set[nn.Module]:
    """The score layers of all heads of ``model``: of the top map and of every skip."""
    heads = [module for module in model.modules() if isinstance(module, Head)]
    return {layer for head in heads for layer in head.score_layers.values()}


def build_optimizer(
    model: nn.Module, options: OptimOptions, device: torch.device
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW (Loshchilov and Hutter, 2019, Algorithm 2).

    SGD's momentum buffer leaves out lr, unlike Caffe's: equal while lr is constant.
    """
    groups = parameter_groups(model, options)
    fused = options.fused and device.type in ("cpu", "cuda")
    if options.method == "adamw":
        betas = (options.momentum, ADAM_BETA2)
        return torch.optim.AdamW(groups, lr=options.lr, betas=betas, fused=fused)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, fused=fused)


def lr_factor(step: int, steps: int, options: OptimOptions) -> float:
    """The factor on the base rates at ``step`` of ``steps``, counted from 0.

    cosine is one period of Loshchilov and Hutter (SGDR, 2017), equation 5, down to 0.
    """
    factor = 1.0
    if options.schedule == "poly":
        factor = max(0.0, 1.0 - step / steps) ** options.power
    elif options.schedule == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))
    if step < options.warmup:
        factor *= (step + 1) / options.warmup
    return factor


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
