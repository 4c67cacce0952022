"""Sums over the processes that hold parts of one batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def of_group(group: Any) -> Any:
    """The process group that an argument ``group`` means; None: this process is alone."""
    if group is None or group is False:
        return None
    if group is not True and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"group must be a process group, True or None, got {type(group).__name__} {group!r}"
        )
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError("group must be None before torch.distributed.init_process_group, got True")
    return dist.group.WORLD if group is True else group


def summed(values: Tensor, group: Any) -> Tensor:
    """The sum of ``values`` over a group of :func:`of_group`, with the gradient of that sum."""
    if group is None:
        return values
    total: Tensor = _Summed.apply(values, group)
    return total


def counted(count: Tensor, group: Any) -> Tensor:
    """The sum of ``count``, which has no gradient."""
    if group is not None:
        count = count.clone()
        dist.all_reduce(count, group=group)
    return count


class _Summed(torch.autograd.Function):
    """Each process computes the same loss from the sum, so that the gradient of a process's part
    is what the losses of all say of it, added up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return counted(values, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return counted(grads[0], ctx.group), None
