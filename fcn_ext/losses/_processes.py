"""Sums over the processes that hold parts of one batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext._arguments import shown
from fcn_ext.ops import _observers


def of_group(group: Any) -> Any:
    """The process group for an argument ``group``; None if this process is alone."""
    if group is None or group is False:
        return None
    if group is not True and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            "group must be a process group, True or None, got "
            f"{type(group).__name__} {shown(group)}"
        )
    if not (dist.is_available() and dist.is_initialized()):
        when = "before torch.distributed.init_process_group"
        if group is not True:
            when = "after torch.distributed.destroy_process_group"
        raise ValueError(f"group must be None {when}, got {group!r}")
    return dist.group.WORLD if group is True else group


def summed(values: Tensor, group: Any) -> Tensor:
    """The sum of ``values`` over a group of :func:`of_group`, with the gradient of that sum."""
    if group is None:
        return values
    total: Tensor = _Summed.apply(values, group)
    return total


def counted(count: Tensor, group: Any) -> Tensor:
    """The sum of ``count``, which has no gradient."""
    if group is None:
        return count
    # So that a collective sees the tensor that a transform of torch.func has wrapped.
    if not is_dynamo_compiling() and _observers._transforms_active():
        return summed(count, group)
    return _all_reduced(count, group)


def _all_reduced(values: Tensor, group: Any) -> Tensor:
    values = values.clone()
    dist.all_reduce(values, group=group)
    return values


class _Summed(torch.autograd.Function):
    """Each process computes the same loss from the sum, so the gradient of a process's part is the
    sum of the gradients of all losses."""

    @staticmethod
    def forward(values: Tensor, group: Any) -> Tensor:
        return _all_reduced(values, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return counted(grads[0], ctx.group), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], values: Tensor, group: Any) -> tuple[Tensor, Any]:
        """Sums all examples at once: every process has the same number of them."""
        return summed(values, group), in_dims[0]
