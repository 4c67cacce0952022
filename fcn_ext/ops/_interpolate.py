"""interpolate: a drop-in for F.interpolate(mode="bilinear")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import _rules
from fcn_ext.geometry import NO_OFFSET, Resize
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.interpolate.default
_backward_op = torch.ops.fcn_ext.interpolate_backward.default


def interpolate(
    input: Tensor,
    size: int | Sequence[int],
    *,
    align_corners: bool = False,
    uncropped_size: int | Sequence[int] | None = None,
    offset: int | Sequence[int] = NO_OFFSET,
) -> Tensor:
    """``F.interpolate(input, size, mode="bilinear", align_corners=align_corners)``.

    Any ratio, up or down, without antialiasing, as in torch. Unlike in torch, the backward pass is
    deterministic and half types are accumulated in float32; weights are exact ratios of integers,
    rounded once. The output has the dtype and the layout of ``input``.

        >>> interpolate(torch.zeros(1, 21, 32, 32), (250, 333)).shape
        torch.Size([1, 21, 250, 333])

    With ``uncropped_size`` the result is the window at ``offset`` of a map of that size, which is
    not computed beyond the window.

    Args:
        input: (N, C, H, W), float32, float64, float16 or bfloat16, any strides.
        size: rows and columns of the output, >= 1; one number or (height, width).
        align_corners: the corner pixels of input and output coincide, instead of the outer edges.
        uncropped_size: the size before the crop, >= 1; by default ``size``, so that nothing is
            cropped; one number or (height, width).
        offset: first row and column of the window, >= 0; one number or (y, x).

    Returns:
        (N, C, *size).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(input, "input")
    height, width = _common.pair(size, "size")
    if uncropped_size is None and offset is NO_OFFSET:
        _common.flag(align_corners, "align_corners")
        result: Tensor = _interpolate(input, height, width, align_corners, None)
        return result
    crop = Resize(align_corners, uncropped_size, offset).numbers[1:]
    result = _interpolate(input, height, width, align_corners, crop or None)
    return result


@torch.library.register_fake("fcn_ext::interpolate")
def _(
    input: Tensor, height: int, width: int, align_corners: bool, crop: list[int] | None = None
) -> Tensor:
    _rules.check_forward(input, _rules.resize_numbers(align_corners, crop), height, width, "size")
    return _common.empty_map(input, height, width)


@torch.library.register_fake("fcn_ext::interpolate_backward")
def _(
    grad: Tensor, height: int, width: int, align_corners: bool, crop: list[int] | None = None
) -> Tensor:
    _rules.check_backward(grad, _rules.resize_numbers(align_corners, crop), height, width)
    return _common.empty_map(grad, height, width)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, _, _, ctx.align_corners, *crop = inputs
    ctx.crop = crop[0] if crop else None
    ctx.size = input.shape[2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _interpolate_backward(grad, *ctx.size, ctx.align_corners, ctx.crop), *[None] * 4


# The map is linear, so the backward's backward is the forward.
def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _interpolate(grad, *ctx.size, ctx.align_corners, ctx.crop), *[None] * 4


_interpolate = _autograd.linear(_op, 1, _backward, _setup_context)
_interpolate_backward = _autograd.linear(_backward_op, 1, _double_backward, _setup_context)
torch.library.register_vmap("fcn_ext::interpolate", _common.vmap_over_batch(_op, 1))
torch.library.register_vmap(
    "fcn_ext::interpolate_backward", _common.vmap_over_batch(_backward_op, 1)
)
