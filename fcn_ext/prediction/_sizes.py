"""argmax_sizes: the labels of each image of a batch at its own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext._arguments import with_values
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _common
from fcn_ext.prediction._arguments import full_size


def argmax_sizes(
    scores: Tensor,
    sizes: Sequence[int | Sequence[int]] | Tensor,
    geometry: Geometry = Resize(),
    *,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """The class with the greatest score in every pixel, for each image at its own size.

    Equals ``[F.interpolate(image[None], size, mode="bilinear").argmax(1)[0] for image, size in
    zip(scores, sizes)]``, one image after the other, without the scores at full size.

        >>> scores = torch.zeros(2, 21, 32, 32)
        >>> [tuple(labels.shape) for labels in argmax_sizes(scores, [(480, 640), (333, 500)])]
        [(480, 640), (333, 500)]

    Args:
        scores: (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        sizes: rows and columns of each image's labels: N numbers or pairs (height, width), or an
            integer tensor (N, 2).
        geometry: how the scores reach them, a :class:`~fcn_ext.geometry.Deconvolution` or a
            :class:`~fcn_ext.geometry.Resize`.
        dtype: of the labels; default uint8 up to 256 classes, int16 beyond.

    Returns:
        N label maps (height, width).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: there are more or fewer sizes than images, or an argument breaks a rule above;
            the message names it and the value found.
    """
    _common.is_map(scores, "scores")
    pairs = size_of_each(sizes, scores.shape[0], "sizes")
    for image, size in enumerate(pairs):
        full_size(scores, size, geometry, f"sizes[{image}]")
    return [
        ops.argmax(image.unsqueeze(0), size, geometry, dtype=dtype)[0]
        for image, size in zip(scores, pairs, strict=True)
    ]


def size_of_each(sizes: Any, count: int, name: str) -> list[tuple[int, int]]:
    """``sizes``, an argument called ``name``, as a (height, width) for each of ``count`` images."""
    values = sizes
    if isinstance(sizes, Tensor):
        values = with_values(_common.is_tensor(sizes, name), name).tolist()
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes, bytearray)):
        raise TypeError(
            f"{name} must be a list of (height, width) or a tensor (N, 2), "
            f"got {_common.shown(sizes)}"
        )
    if len(values) != count:
        raise ValueError(f"{name} must have a size for each image, {count}, got {len(values)}")
    return [_common.pair(size, f"{name}[{image}]") for image, size in enumerate(values)]
