"""upsample_argmax, interpolate_argmax: label maps straight from coarse scores."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from fcn_ext.ops import _autograd, _common

_upsample_op = torch.ops.fcn_ext.upsample_argmax.default
_interpolate_op = torch.ops.fcn_ext.interpolate_argmax.default


@overload
def upsample_argmax(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = ...,
    offset: int | tuple[int, int] = ...,
    output_size: int | tuple[int, int] | None = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[False] = ...,
) -> Tensor: ...
@overload
def upsample_argmax(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = ...,
    offset: int | tuple[int, int] = ...,
    output_size: int | tuple[int, int] | None = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def upsample_argmax(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    output_size: int | tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
    return_probability: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The class with the greatest score in every pixel of ``upsample(input, stride, ...)``.

    Equals ``upsample(...).argmax(1)`` without storing the upsampled scores: of equal scores the
    lowest class wins, and NaN counts as the greatest value. Where scores differ by no more than
    rounding, either class may win. No gradient.

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        stride: output pixels an input pixel, >= 1.
        kernel_size: ``2 * stride`` (the default for every stride but 1) or ``2 * stride - 1``
            (the default, 1, for stride 1).
        offset: first row and column of the window of the upsampled scores, >= 0; one number or
            (y, x).
        output_size: rows and columns of the window; default all that is left.
        dtype: of the labels: uint8, int16, int32 or int64, wide enough for C - 1; default uint8 up
            to 256 classes, int16 beyond.
        return_probability: return the softmax probability of the winner, too.

    Returns:
        Labels (N, *output_size); with ``return_probability`` also probabilities of the same shape,
        float32, or float64 for float64 scores.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(input, "input")
    window = _common.upsample_window(input, stride, kernel_size, offset, output_size)
    return _argmax(_upsample, (input, *window), dtype, return_probability)


@overload
def interpolate_argmax(
    input: Tensor,
    size: int | tuple[int, int],
    *,
    align_corners: bool = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[False] = ...,
) -> Tensor: ...
@overload
def interpolate_argmax(
    input: Tensor,
    size: int | tuple[int, int],
    *,
    align_corners: bool = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def interpolate_argmax(
    input: Tensor,
    size: int | tuple[int, int],
    *,
    align_corners: bool = False,
    dtype: torch.dtype | None = None,
    return_probability: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The class with the greatest score in every pixel of ``interpolate(input, size, ...)``.

    Replaces ``F.interpolate(scores, size, mode="bilinear").argmax(1)``. In all else it is
    :func:`upsample_argmax`, with the geometry of :func:`fcn_ext.ops.interpolate`.

    Args:
        input: coarse scores (N, C, h, w), as there.
        size: rows and columns of the labels, >= 1; one number or (height, width).
        align_corners: the corner pixels of scores and labels coincide, instead of the outer edges.
        dtype: of the labels, as there.
        return_probability: return the softmax probability of the winner, too.

    Returns:
        Labels (N, *size), or labels and probabilities, as there.

    Raises:
        TypeError, ValueError: as there.
    """
    _common.is_map(input, "input")
    height, width = _common.pair(size, "size")
    if not isinstance(align_corners, bool):
        raise TypeError(f"align_corners must be a bool, got {align_corners!r}")
    arguments = (input, height, width, align_corners)
    return _argmax(_interpolate, arguments, dtype, return_probability)


def _argmax(
    op: Any, arguments: tuple[Any, ...], dtype: torch.dtype | None, return_probability: bool
) -> Tensor | tuple[Tensor, Tensor]:
    if dtype is None:
        dtype = torch.uint8 if arguments[0].shape[1] <= 256 else torch.int16
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {dtype!r}")
    if not isinstance(return_probability, bool):
        raise TypeError(f"return_probability must be a bool, got {return_probability!r}")
    labels, probability = op(*arguments, dtype, return_probability)
    return (labels, probability) if return_probability else labels


def _fake(
    input: Tensor, height: int, width: int, dtype: torch.dtype, with_probability: bool
) -> tuple[Tensor, Tensor]:
    shape = (input.shape[0], height, width)
    probability = input.new_empty(
        shape if with_probability else (0,), dtype=_common.accumulate_dtype(input)
    )
    return input.new_empty(shape, dtype=dtype), probability


@torch.library.register_fake("fcn_ext::upsample_argmax")
def _(
    input: Tensor,
    stride: int,
    kernel_size: int,
    offset_y: int,
    offset_x: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    with_probability: bool,
) -> tuple[Tensor, Tensor]:
    return _fake(input, height, width, dtype, with_probability)


@torch.library.register_fake("fcn_ext::interpolate_argmax")
def _(
    input: Tensor,
    height: int,
    width: int,
    align_corners: bool,
    dtype: torch.dtype,
    with_probability: bool,
) -> tuple[Tensor, Tensor]:
    return _fake(input, height, width, dtype, with_probability)


_upsample = _autograd.constant(_upsample_op)
_interpolate = _autograd.constant(_interpolate_op)
torch.library.register_vmap("fcn_ext::upsample_argmax", _common.vmap_over_batch(_upsample_op, 1))
torch.library.register_vmap(
    "fcn_ext::interpolate_argmax", _common.vmap_over_batch(_interpolate_op, 1)
)
