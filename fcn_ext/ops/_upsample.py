"""upsample: FCN's fixed deconvolution followed by its Crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import _rules
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.upsample.default
_backward_op = torch.ops.fcn_ext.upsample_backward.default


def upsample(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | Sequence[int] = 0,
    output_size: int | Sequence[int] | None = None,
) -> Tensor:
    """Bilinear upsampling by a fixed transposed convolution, and a crop of it, in one pass.

    Equals a depthwise transposed convolution of ``input`` with Caffe's bilinear kernel (Long et
    al., section 3.3; ``fcn_ext.reference.bilinear_kernel``), no padding, then the window of
    ``output_size`` that starts at ``offset``. Nodes beyond the border count as zero, as they do
    there. The uncropped size is ``(H - 1) * stride + kernel_size`` rows, columns alike.

    The last layer of FCN-8s takes scores of every eighth pixel to the size of the image::

        >>> scores = torch.zeros(1, 21, 70, 70)
        >>> upsample(scores, 8, offset=31, output_size=(500, 500)).shape
        torch.Size([1, 21, 500, 500])

    31 is where the published net's Crop begins. The image was padded by 100 pixels, and each
    layer since moved its cells by a known fraction; :func:`fcn_ext.geometry.crop_offset` computes
    the number from the layers.

    Deterministic, forward and backward; differentiable any number of times. The output has the
    dtype and the layout (contiguous or channels_last) of ``input``; half types are accumulated in
    float32.

    Args:
        input: scores (N, C, H, W), float32, float64, float16 or bfloat16, any strides.
        stride: output pixels per input pixel, >= 1.
        kernel_size: ``2 * stride`` (the default for every stride but 1) or ``2 * stride - 1``
            (FCN-AlexNet's 63 for stride 32, and the default, 1, for stride 1).
        offset: first row and column of the window, >= 0; one number or (y, x).
        output_size: rows and columns of the window; default all that is left.

    Returns:
        (N, C, *output_size).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(input, "input")
    window = _common.upsample_window(input, stride, kernel_size, offset, output_size)
    result: Tensor = _upsample(input, *window)
    return result


@torch.library.register_fake("fcn_ext::upsample")
def _(
    input: Tensor, stride: int, kernel_size: int, offset_y: int, offset_x: int, h: int, w: int
) -> Tensor:
    _rules.check_forward(input, (stride, kernel_size, offset_y, offset_x), h, w, "output_size")
    return _common.empty_map(input, h, w)


@torch.library.register_fake("fcn_ext::upsample_backward")
def _(
    grad: Tensor, stride: int, kernel_size: int, offset_y: int, offset_x: int, h: int, w: int
) -> Tensor:
    _rules.check_backward(grad, (stride, kernel_size, offset_y, offset_x), h, w)
    return _common.empty_map(grad, h, w)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, *ctx.geometry, _, _ = inputs
    ctx.size = input.shape[2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (_upsample_backward(grad, *ctx.geometry, *ctx.size), *[None] * 6)


# The map is linear, so the backward's backward is the forward.
def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (_upsample(grad, *ctx.geometry, *ctx.size), *[None] * 6)


_upsample = _autograd.linear(_op, 1, _backward, _setup_context)
_upsample_backward = _autograd.linear(_backward_op, 1, _double_backward, _setup_context)
torch.library.register_vmap("fcn_ext::upsample", _common.vmap_over_batch(_op, 1))
torch.library.register_vmap("fcn_ext::upsample_backward", _common.vmap_over_batch(_backward_op, 1))
