"""Bounds the norm of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from fcn_train.errors import LossError


def clip_gradients(
    parameters: Iterable[nn.Parameter], limit: float, *, check: bool = True
) -> float:
    """Scale gradients down, all by one factor, so that their norm is at most ``limit``.

    The norm is the Euclidean norm of all gradients together (Pascanu et al., 2013, Algorithm 1), so
    their direction is kept. If it is smaller, nothing changes. Parameters without a gradient do not
    count.

    Args:
        parameters: those of the network; their gradients are changed.
        limit: > 0.
        check: refuse gradients that are not finite. Without it they become NaN.

    Returns:
        The norm before.

    Raises:
        LossError: the norm is not finite, so the gradients have no direction.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
    if check and not math.isfinite(norm):
        raise LossError(f"the norm of the gradients is {norm}; try a lower --optim.lr")
    return norm
