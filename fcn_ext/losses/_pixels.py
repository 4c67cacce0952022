"""Helpers for label maps and maps of pixel losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext.losses import _processes
from fcn_ext.ops import _common, _observers

REDUCTIONS = ("none", "sum", "mean", "mean_all")


def check_reduction(reduction: Any) -> None:
    _common.one_of(reduction, REDUCTIONS, "reduction")


def holds(dtype: torch.dtype, value: int) -> bool:
    """Whether ``dtype`` can hold the label ``value``; otherwise a comparison with it would wrap
    around."""
    limits = torch.iinfo(dtype)
    return limits.min <= value <= limits.max


def not_void(target: Tensor, ignore_index: int) -> Tensor:
    """Where ``target`` is not void, bool."""
    if not holds(target.dtype, ignore_index):
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignore_index


# From so many numbers on, torch adds up parts of them in several threads.
_SHARED = 2**15


def total_of(values: Tensor) -> Tensor:
    """The sum of ``values``, to the same bits for any number of threads: a row is never shared."""
    number = values.numel()
    # Symbols are not compared, which would bind a graph to them; to dynamo they are integers.
    if not is_dynamo_compiling() and type(number) is int and number >= _SHARED:
        while values.dim() > 1:
            values = values.sum(-1)
    return values.sum()


def count(mask: Tensor) -> Tensor:
    """How many pixels of a bool ``mask`` are set, int64 ()."""
    if is_dynamo_compiling() or _observers._transforms_active():
        return mask.sum()  # torch 2.11 has no batching rule for the other
    # Not its sum, for which torch copies it as int64, eight bytes per pixel.
    return torch.count_nonzero(mask)


def weight_of(target: Tensor, ignore_index: int, weight: Tensor | None) -> Tensor:
    """The number of pixels that are not void, or the sum of their class weights in float64."""
    valid = not_void(target, ignore_index)
    if weight is None:
        return count(valid)
    weights = per_pixel(weight.detach(), target).masked_fill_(~valid, 0)
    return weights.sum(dtype=torch.float64)


def over(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``, zero over nothing."""
    return total / count.to(total.dtype).clamp(min=1)


def over_weight(total: Tensor, weight: Tensor) -> Tensor:
    """``total / weight``; if the weight is zero, it is not finite and its gradient is zero."""
    weight = weight.to(total.dtype)
    nothing = weight == 0
    # Only values without a gradient are divided by zero: where() would zero the gradient too late.
    mean = total / torch.where(nothing, 1, weight)
    return torch.where(nothing, total.detach() / weight, mean)


def mean_all(total: Tensor, target: Tensor, group: Any) -> Tensor:
    """The sum ``total`` over the number of all pixels, of all processes of ``group``."""
    if group is None:
        return total / max(1, target.numel())
    # Not torch.tensor, which on CUDA copies from the host and waits.
    pixels = torch.full((), target.numel(), dtype=torch.int64, device=total.device)
    return over(_processes.summed(total, group), _processes.counted(pixels, group))


def reduced(
    loss: Tensor, target: Tensor, ignore_index: int, reduction: str, group: Any = None
) -> Tensor:
    """A map of pixel losses, zero where void, as ``reduction`` says; means over ``group``."""
    if reduction == "none":
        return loss
    total = total_of(loss)
    if reduction == "sum":
        return total
    if reduction == "mean_all":
        return mean_all(total, target, group)
    valid = _processes.counted(count(not_void(target, ignore_index)), group)
    return over(_processes.summed(total, group), valid)


def per_pixel(values: Tensor, target: Tensor) -> Tensor:
    """``values[target]``; arbitrary where the label is void or out of range."""
    # Of what an index may be the smallest type, which holds the number of any class.
    labels = target if target.dtype == torch.int64 else target.to(torch.int32)
    labels = labels.clamp(0, values.shape[0] - 1)
    return values.index_select(0, labels.flatten()).reshape(target.shape)
