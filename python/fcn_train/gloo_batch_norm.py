"""Batch normalization over the images of several processes on CPUs.

torch's ``SyncBatchNorm`` runs only on GPUs. Means and variances are those of Ioffe and Szegedy
(2015, Algorithm 1) over the images of all processes, and so is the gradient. Each pass needs one
exchange.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class GlooBatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over the batch of all processes; a process may hold none of it."""

    @torch.compiler.disable  # waiting for other processes cannot be part of a graph
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        centered, own_mean, squares = _centered(values.detach())
        count, mean, variance = _of_all(values.numel() // values.shape[1], own_mean, squares)
        if count <= 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got {count} of all "
                "processes together"
            )
        running = self.running_mean, self.running_var, self.num_batches_tracked
        with torch.no_grad():
            for known, new in zip(running, (mean, variance * count / (count - 1)), strict=False):
                cast(Tensor, known).lerp_(new, cast(float, self.momentum))
            cast(Tensor, running[2]).add_(1)
        normalized: Tensor = _Normalized.apply(
            values, self.weight, self.bias, centered, own_mean, mean, variance, count, self.eps
        )
        return normalized.to(input.dtype)


def _centered(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``values`` (N, C, H, W) minus their mean, the mean, and the sum of squares of the difference,
    both (C,). (torch's own batch statistics take ten times as long.)"""
    number = max(1, values.numel() // values.shape[1])
    mean = values.sum((0, 2, 3)) / number
    centered = values - mean[:, None, None]
    if centered.is_contiguous():
        norms = torch.linalg.vector_norm(centered.flatten(2), dim=2)
        return centered, mean, norms.double().square().sum(0)
    return centered, mean, centered.square().sum((0, 2, 3)).double()


def _of_all(count: int, mean: Tensor, squares: Tensor) -> tuple[int, Tensor, Tensor]:
    """The number of values in a channel, their mean and variance, over all processes.

    Each process sums squares about its own mean; they are then moved to the mean of all (Chan,
    Golub and LeVeque, 1983, formula 2.1), so that a large mean costs no precision.
    """
    everyone = mean.new_zeros(dist.get_world_size(), 3, len(mean), dtype=torch.float64)
    everyone[dist.get_rank()] = torch.stack([torch.full_like(squares, count), mean, squares])
    dist.all_reduce(everyone)
    counts, means, sums = everyone.unbind(1)
    total = counts.sum(0).clamp(min=1)
    of_all = (counts * means).sum(0) / total
    variance = (sums + counts * (means - of_all).square()).sum(0) / total
    return int(counts[:, 0].sum()), of_all.to(mean.dtype), variance.to(mean.dtype)


class _Normalized(torch.autograd.Function):
    """``weight * (values - mean) / sqrt(variance + eps) + bias``, where mean and variance are those
    of the values of all processes, whose gradient this is. It takes the memory of ``centered``, the
    values less ``own_mean``."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        centered: Tensor,
        own_mean: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        ctx.mark_dirty(centered)
        scale = weight * (variance + eps).rsqrt()
        shift = bias + scale * (own_mean - mean)
        return centered.mul_(scale[:, None, None]).add_(shift[:, None, None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values, weight, mean, variance = ctx.saved_tensors
        if values.numel() > 0:
            # With fixed statistics, these are the sums that the gradient needs, and its first term.
            gradient, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                grads[0], values, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
            )
        else:
            gradient, of_weight, of_bias = (
                torch.empty_like(values),
                torch.zeros_like(weight),
                torch.zeros_like(weight),
            )
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)
        inverse = (variance + ctx.eps).rsqrt()
        scale = weight * inverse / ctx.count
        slope = scale * inverse * sums[0]
        shift = scale * sums[1] - slope * mean
        gradient.addcmul_(values, slope[:, None, None], value=-1).sub_(shift[:, None, None])
        return gradient, of_weight, of_bias, *[None] * 6
