"""fuse_skip: FCN's upscore, crop and sum in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import _rules
from fcn_ext.ops import _autograd, _common, _upsample

_op = torch.ops.fcn_ext.fuse_skip.default


def fuse_skip(
    coarse: Tensor, skip: Tensor, offset: int | Sequence[int], *, stride: int = 2
) -> Tensor:
    """``upsample(coarse, stride)`` plus the window of ``skip`` at ``offset``, in one pass.

    FCN's ``fuse_pool4`` and ``fuse_pool3``: the coarse scores upsampled, the skip layer's scores
    cropped to them, and their sum (Long et al., section 4.2). The output has the size of the
    upsampled scores, ``(H - 1) * stride + kernel_size`` rows, and the layout of ``coarse``.

    With pool3's scores 9 rows and columns into the map, as in the published FCN-8s::

        >>> coarse, skip = torch.zeros(1, 21, 34, 34), torch.zeros(1, 21, 88, 88)
        >>> fuse_skip(coarse, skip, offset=9).shape
        torch.Size([1, 21, 70, 70])

    Under autocast, maps of different dtypes are converted to the wider one, as in ``coarse +
    skip``.

    Args:
        coarse: scores (N, C, H, W), float32, float64, float16 or bfloat16, any strides.
        skip: scores (N, C, H', W') of the same dtype, large enough for the window.
        offset: first row and column of the window in ``skip``, >= 0; one number or (y, x).
        stride: of the upsampling, >= 1; its kernel is ``2 * stride`` (1 for stride 1).

    Returns:
        (N, C, (H - 1) * stride + kernel_size, (W - 1) * stride + kernel_size).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(coarse, "coarse")
    _common.is_map(skip, "skip")
    _common.on_same_device(coarse, "coarse", skip, "skip")
    offset_y, offset_x = _common.pair(offset, "offset")
    stride = _common.integer(stride, "stride")
    if coarse.dtype != skip.dtype and torch.is_autocast_enabled(coarse.device.type):
        dtype = torch.promote_types(coarse.dtype, skip.dtype)
        coarse, skip = coarse.to(dtype), skip.to(dtype)
    result: Tensor = _fuse_skip(coarse, skip, offset_y, offset_x, stride)
    return result


@torch.library.register_fake("fcn_ext::fuse_skip")
def _(coarse: Tensor, skip: Tensor, offset_y: int, offset_x: int, stride: int) -> Tensor:
    _rules.check_fuse_skip(coarse, skip, offset_y, offset_x, stride)
    kernel_size = _common.default_kernel_size(stride)
    height, width = ((size - 1) * stride + kernel_size for size in coarse.shape[2:])
    return _common.empty_map(coarse, height, width)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    coarse, skip, ctx.offset_y, ctx.offset_x, ctx.stride = inputs
    ctx.coarse_size, ctx.skip_size = coarse.shape[2:], skip.shape[2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_coarse = grad_skip = None
    if ctx.needs_input_grad[0]:
        grad_coarse = _upsample._upsample_backward(
            grad, ctx.stride, _common.default_kernel_size(ctx.stride), 0, 0, *ctx.coarse_size
        )
    if ctx.needs_input_grad[1]:
        height, width = ctx.skip_size
        left, top = ctx.offset_x, ctx.offset_y
        grad_skip = F.pad(
            grad, (left, width - grad.shape[3] - left, top, height - grad.shape[2] - top)
        )
    return grad_coarse, grad_skip, None, None, None


_fuse_skip = _autograd.linear(_op, 2, _backward, _setup_context)
torch.library.register_vmap("fcn_ext::fuse_skip", _common.vmap_over_batch(_op, 2))
