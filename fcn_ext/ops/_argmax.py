"""argmax: label maps straight from coarse scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import _label_rules, _rules
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.argmax.default


@overload
def argmax(
    input: Tensor,
    size: int | Sequence[int] | None = ...,
    geometry: Geometry = ...,
    *,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[False] = ...,
) -> Tensor: ...
@overload
def argmax(
    input: Tensor,
    size: int | Sequence[int] | None = ...,
    geometry: Geometry = ...,
    *,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def argmax(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    geometry: Geometry = Resize(),
    *,
    dtype: torch.dtype | None = None,
    return_probability: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The class with the greatest score in every pixel, straight from coarse scores.

    Equals ``F.interpolate(input, size, mode="bilinear").argmax(1)``, or with a
    :class:`~fcn_ext.geometry.Deconvolution` ``upsample(input, ...).argmax(1)``, without storing the
    scores at full size: of equal scores the lowest class wins, and NaN counts as the greatest
    value. Where scores differ by no more than rounding, either class may win. No gradient.

        >>> scores = torch.zeros(1, 21, 32, 32)
        >>> scores[:, 7] = 1
        >>> argmax(scores, (250, 333)).unique()
        tensor([7], dtype=torch.uint8)

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides, C up
            to 32768.
        size: rows and columns of the labels, >= 1; one number or (height, width). With a
            ``Deconvolution``, or a ``Resize`` with ``uncropped_size``, it may be left out: by
            default all that is left below and right of the offset.
        geometry: how the scores reach that size, a ``Deconvolution`` or a ``Resize``.
        dtype: of the labels: uint8, int16, int32 or int64, wide enough for C - 1; default uint8 up
            to 256 classes, int16 beyond.
        return_probability: return the softmax probability of the winner, too.

    Returns:
        Labels (N, *size); with ``return_probability`` also probabilities of the same shape,
        float32, or float64 for float64 scores.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(input, "input")
    _common.is_geometry(geometry)
    if size is not None:
        height, width = _common.pair(size, "size")
    else:
        height, width = _common.size_of(geometry, input, "size")
    if dtype is None:
        dtype = torch.uint8 if input.shape[1] <= 256 else torch.int16
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {_common.shown(dtype)}")
    _common.flag(return_probability, "return_probability")
    labels, probability = _argmax(input, height, width, geometry.numbers, dtype, return_probability)
    return (labels, probability) if return_probability else labels


def upsample_argmax(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | Sequence[int] = 0,
    output_size: int | Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """``argmax(input, output_size, Deconvolution(stride, kernel_size, offset), **options)``."""
    geometry = Deconvolution(stride, kernel_size, offset)
    return argmax_of_window(input, output_size, geometry, **options)


def argmax_of_window(input: Tensor, output_size: Any, geometry: Geometry, **options: Any) -> Any:
    """:func:`argmax` for callers whose argument for the size is ``output_size``, which is what
    errors then call it."""
    if output_size is None or is_dynamo_compiling():
        return argmax(input, output_size, geometry, **options)
    height, width = _common.pair(output_size, "output_size")
    try:
        return argmax(input, (height, width), geometry, **options)
    except ValueError:  # of the size, say, by the operator's name for it
        pass
    _rules.check_forward(input, geometry.numbers, height, width, "output_size")
    return argmax(input, (height, width), geometry, **options)


def interpolate_argmax(
    input: Tensor, size: int | Sequence[int], *, align_corners: bool = False, **options: Any
) -> Any:
    """``argmax(input, size, Resize(align_corners), **options)``."""
    return argmax(input, size, Resize(align_corners), **options)


@torch.library.register_fake("fcn_ext::argmax")
def _(
    input: Tensor,
    height: int,
    width: int,
    geometry: list[int],
    dtype: torch.dtype,
    with_probability: bool,
) -> tuple[Tensor, Tensor]:
    _rules.check_forward(input, geometry, height, width, "size")
    _label_rules.check_argmax(input, dtype)
    shape = (input.shape[0], height, width)
    probability = input.new_empty(
        shape if with_probability else (0,), dtype=_common.accumulate_dtype(input)
    )
    return input.new_empty(shape, dtype=dtype), probability


_argmax = _autograd.constant(_op)
torch.library.register_vmap("fcn_ext::argmax", _common.vmap_over_batch(_op, 1))
