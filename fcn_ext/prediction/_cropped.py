"""argmax_cropped: labels of scores that are resized, cropped and resized again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from fcn_ext import _rules
from fcn_ext._uncompiled import never_compiled
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _common
from fcn_ext.prediction._arguments import full_size
from fcn_ext.prediction._place import Window, place
from fcn_ext.prediction._rows import Span, cropped_rows, tiles
from fcn_ext.prediction._winners import below_each_other, winners


@overload
def argmax_cropped(
    scores: Tensor,
    padded_size: int | Sequence[int],
    window: Window,
    size: int | Sequence[int],
    geometry: Geometry = ...,
    *,
    align_corners: bool = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[False] = ...,
) -> Tensor: ...
@overload
def argmax_cropped(
    scores: Tensor,
    padded_size: int | Sequence[int],
    window: Window,
    size: int | Sequence[int],
    geometry: Geometry = ...,
    *,
    align_corners: bool = ...,
    dtype: torch.dtype | None = ...,
    return_probability: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@torch.no_grad()
@never_compiled
def argmax_cropped(
    scores: Tensor,
    padded_size: int | Sequence[int],
    window: Window,
    size: int | Sequence[int],
    geometry: Geometry = Resize(),
    *,
    align_corners: bool = False,
    dtype: torch.dtype | None = None,
    return_probability: bool = False,
) -> Any:
    """Labels of images that were scaled and padded for the net, at their original size.

    Equals::

        full = F.interpolate(scores, padded_size, mode="bilinear")   # or what geometry says
        own = full[:, :, top : top + height, left : left + width]
        F.interpolate(own, size, mode="bilinear", align_corners=align_corners).argmax(1)

    except at pixels whose scores differ by no more than rounding. Some rows of the result are
    computed at a time; scores are stored at neither size.

        >>> scores = torch.zeros(1, 21, 64, 64)
        >>> argmax_cropped(scores, (512, 512), (0, 0, 341, 512), (333, 500)).shape
        torch.Size([1, 333, 500])

    Args:
        scores: (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        padded_size: size of the image that the net saw, with padding; one number or (height,
            width).
        window: (top, left, height, width) of the image in it.
        size: rows and columns of the labels; one number or (height, width).
        geometry: how the scores reach ``padded_size``, a :class:`~fcn_ext.geometry.Deconvolution`
            or a :class:`~fcn_ext.geometry.Resize`.
        align_corners: that of the second resize.
        dtype: of the labels; default uint8 up to 256 classes, int16 beyond.
        return_probability: return the softmax probability of the winner, too.

    Returns:
        Labels (N, *size); with ``return_probability`` also probabilities of the same shape,
        float32, or float64 for float64 scores.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.flag(return_probability, "return_probability")
    scores, padded, geometry = full_size(scores, padded_size, geometry, "padded_size")
    place_in = place(window, padded, "the padded size")
    height, width = place_in[2:]
    rows, columns = _common.pair(size, "size")
    _rules.check_axes(Resize(align_corners).numbers, (height, width), (rows, columns), "size")
    # Rows of the first resize per row of the result, if there are more of them.
    dense = -(-height // rows)
    row = scores.shape[0] * scores.shape[1] * max(padded[1], columns) * dense

    def labels(tile: Span) -> tuple[Tensor, ...]:
        own, second = cropped_rows(
            scores, tile, (rows, columns), padded, place_in, geometry, align_corners
        )
        return winners(own, (tile.length, columns), second, dtype, return_probability)

    return below_each_other(map(labels, tiles(rows, row, on_cuda=scores.is_cuda)))
