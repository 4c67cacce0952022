"""What the losses do with label maps and with maps of pixel losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

REDUCTIONS = ("none", "sum", "mean", "mean_all")


def check_reduction(reduction: Any) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction must be 'none', 'sum', 'mean' or 'mean_all', got {reduction!r}"
        )


def holds(dtype: torch.dtype, value: int) -> bool:
    """Whether labels of ``dtype`` can be ``value``; a comparison with another would wrap."""
    limits = torch.iinfo(dtype)
    return limits.min <= value <= limits.max


def not_void(target: Tensor, ignore_index: int) -> Tensor:
    """Where ``target`` counts, bool."""
    if not holds(target.dtype, ignore_index):
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignore_index


def over(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``, zero over nothing."""
    return total / count.to(total.dtype).clamp(min=1)


def reduced(loss: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """A map of pixel losses, zero where void, as ``reduction`` says."""
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    if reduction == "mean_all":
        return total / max(1, loss.numel())
    return over(total, not_void(target, ignore_index).sum())


def per_pixel(values: Tensor, target: Tensor) -> Tensor:
    """``values[target]``, with anything where the label is void or out of range."""
    labels = target.to(torch.int64).clamp(0, values.shape[0] - 1)
    return values[labels]
