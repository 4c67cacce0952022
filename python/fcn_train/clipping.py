"""Gradients of a bounded norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from fcn_train.errors import LossError


def clip_gradients(
    parameters: Iterable[nn.Parameter], limit: float, *, check: bool = True
) -> float:
    """Scale gradients down, all by one factor, so that their norm is ``limit`` at most.

    The norm is Euclidean and of all gradients together (Pascanu et al., 2013, Algorithm 1), so that
    their direction stays. Shorter ones are left as they are. Parameters without a gradient do not
    count.

    Args:
        parameters: of the network; their gradients are changed.
        limit: > 0.
        check: refuse gradients that are not finite. Without it they become NaN.

    Returns:
        The norm before.

    Raises:
        LossError: it is not finite; the gradients then hold no direction to go.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
    if check and not math.isfinite(norm):
        raise LossError(f"the norm of the gradients is {norm}; try a lower --optim.lr")
    return norm
