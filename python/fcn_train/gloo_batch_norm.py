"""Batch normalization over the images of several processes on CPUs.

torch's ``SyncBatchNorm`` runs on GPUs alone. Means and variances are those of Ioffe and Szegedy
(2015, Algorithm 1) over the images of all processes, and so is the gradient. Each pass exchanges
once.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class GlooBatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose batch is that of all processes; a process may have none of it."""

    @torch.compiler.disable  # what waits for other processes is no part of a graph
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count, mean, variance = _statistics(values.detach(), self.eps)
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
            values, self.weight, self.bias, mean, variance, count, self.eps
        )
        return normalized.to(input.dtype)


def _statistics(values: Tensor, eps: float) -> tuple[int, Tensor, Tensor]:
    """Number of the values of a channel, their mean and variance, of all processes together.

    The squares of each process are about its own mean, and moved to that of all (Chan, Golub and
    LeVeque, 1983, formula 2.1), so that a large mean costs no digits.
    """
    channels, rank = values.shape[1], dist.get_rank()
    everyone = torch.zeros(dist.get_world_size(), 1 + 2 * channels, dtype=torch.float64)
    count = values.numel() // channels
    if count > 0:
        _, mean, inverse = torch.native_batch_norm(values, None, None, None, None, True, 0.0, eps)
        variance = (inverse.double().pow(-2) - eps).clamp(min=0)
        everyone[rank] = torch.cat([mean.new_tensor([count]), mean, variance]).double()
    dist.all_reduce(everyone)
    counts, means, variances = everyone.split([1, channels, channels], dim=1)
    total = counts.sum()
    shares = counts / total.clamp(min=1)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return int(total), mean.to(values.dtype), variance.to(values.dtype)


class _Normalized(torch.autograd.Function):
    """``weight * (values - mean) / sqrt(variance + eps) + bias``, where mean and variance are those
    of the values of all processes, whose gradient this is."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values, weight, mean, variance = ctx.saved_tensors
        if values.numel() > 0:
            # With fixed statistics: these are the sums that the gradient takes, and its first term.
            gradient, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                grads[0], values, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
            )
        else:
            gradient, of_weight, of_bias = (
                grads[0],
                torch.zeros_like(weight),
                torch.zeros_like(weight),
            )
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)
        inverse = (variance + ctx.eps).rsqrt()
        scale = weight * inverse / ctx.count
        slope = scale * inverse * sums[0]
        shift = scale * sums[1] - slope * mean
        channels = (-1, 1, 1)
        gradient = gradient.addcmul(values, slope.view(channels), value=-1)
        return gradient.sub_(shift.view(channels)), of_weight, of_bias, None, None, None, None
