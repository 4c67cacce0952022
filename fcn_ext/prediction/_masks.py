"""masks: scores of masks, taken to full size and thresholded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _common
from fcn_ext.ops._observers import _is_tracing, _transforms_active
from fcn_ext.prediction._arguments import full_size

# Pixels to work on at a time, one byte each; at least one mask.
CHUNK = 2**22


class Masks(NamedTuple):
    """What :func:`masks` returns."""

    masks: Tensor
    """bool (N, Q, H, W); packed, uint8 (N, Q, H, ceil(W / 8)), as ``np.packbits(masks, axis=-1)``:
    the leftmost pixel is the highest bit, the last byte is filled up with zeros."""
    area: Tensor
    """Pixels of each mask, int64 (N, Q)."""
    box: Tensor
    """int64 (N, Q, 4), (x0, y0, x1, y1) with x1 and y1 one past the last pixel, so that
    ``mask[y0:y1, x0:x1]`` has all its pixels. For an empty mask (0, 0, 0, 0)."""


@torch.no_grad()
def masks(
    scores: Tensor,
    size: int | Sequence[int] | None = None,
    geometry: Geometry = Resize(),
    *,
    threshold: float | None = None,
    probability: float | None = None,
    packed: bool = False,
) -> Masks:
    """Masks at full size from coarse scores: ``F.interpolate(scores, size, ...) > threshold``.

    The last step of instance segmentation and of query-based and promptable models. The scores at
    full size are never stored: a few masks at a time become labels by :func:`fcn_ext.ops.argmax`.
    If a score differs from the threshold by no more than rounding, the pixel may be on either side.
    A pixel whose score is NaN belongs to no mask.

        >>> scores = torch.full((1, 2, 4, 4), -1.0)
        >>> scores[0, 0, 1:3, 2] = 3.0
        >>> found = masks(scores, (8, 8), packed=True)
        >>> found.area.tolist(), found.box[0].tolist()
        ([[8, 0]], [[4, 2, 6, 6], [0, 0, 0, 0]])
        >>> found.masks.shape
        torch.Size([1, 2, 8, 1])

    Args:
        scores: logits or probabilities of each mask, (N, Q, h, w), float32, float64, float16 or
            bfloat16, any strides.
        size: rows and columns of the masks, >= 1; one number or (height, width). With a
            ``Deconvolution``, or a ``Resize`` with ``uncropped_size``, it may be left out.
        geometry: how the scores reach that size, a :class:`~fcn_ext.geometry.Deconvolution` or a
            :class:`~fcn_ext.geometry.Resize`.
        threshold: what a score must exceed; default 0, a probability of one half for logits.
        probability: alternatively, what the sigmoid of a score must exceed, in [0, 1].
        packed: return 8 pixels per byte.

    Returns:
        :class:`Masks`: the masks, their areas and their boxes.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    scores, (height, width), geometry = full_size(scores, size, geometry, of_classes=False)
    _common.flag(packed, "packed")
    limit = _limit(threshold, probability)
    flat = scores.flatten(0, 1)
    columns = -(-width // 8) if packed else width
    dtype = torch.uint8 if packed else torch.bool
    result = scores.new_empty((len(flat), height, columns), dtype=dtype)
    area = scores.new_empty(len(flat), dtype=torch.int64)
    box = scores.new_empty((len(flat), 4), dtype=torch.int64)
    for part, chunk in _chunks(flat, (height, width), geometry, limit):
        words = _words(chunk)
        area[part], box[part] = _extent(chunk, words)
        result[part] = _bits(words) if packed else chunk
    leading = scores.shape[:2]
    return Masks(result.view(*leading, height, columns), area.view(leading), box.view(*leading, 4))


def above(scores: Tensor, size: tuple[int, int], geometry: Geometry, limit: float) -> Tensor:
    """Where scores (N, Q, h, w) at full ``size`` exceed ``limit``: bool (N, Q, *size)."""
    flat = scores.flatten(0, 1)
    result = scores.new_empty((len(flat), *size), dtype=torch.bool)
    for part, chunk in _chunks(flat, size, geometry, limit):
        result[part] = chunk
    return result.view(*scores.shape[:2], *size)


def _limit(threshold: Any, probability: Any) -> float:
    """The score that the two arguments stand for."""
    if probability is None:
        return 0.0 if threshold is None else _not_nan(threshold, "threshold")
    if threshold is not None:
        raise ValueError(f"threshold must be left out if probability is given, got {threshold!r}")
    probability = _not_nan(probability, "probability")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability:g}")
    return logit(probability)


def logit(probability: float) -> float:
    """The score whose sigmoid is ``probability``, in [0, 1]; infinite at either end."""
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability) - math.log1p(-probability)


def _within(limit: float, dtype: torch.dtype) -> float:
    """``limit``, or infinity if it is out of the range of ``dtype``, as in comparisons of
    tensors."""
    if abs(limit) <= torch.finfo(dtype).max:
        return limit
    return math.copysign(math.inf, limit)


def _not_nan(value: Any, name: str) -> float:
    value = _common.number(value, name)
    if math.isnan(value):
        raise ValueError(f"{name} must be a number, got nan")
    return float(value)


def _chunks(
    scores: Tensor, size: tuple[int, int], geometry: Geometry, limit: float
) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of the masks (K, h, w): their slice, and their pixels, bool."""
    if isinstance(geometry, Deconvolution):
        # Nodes beyond the border are zero for scores but not for the threshold, so they are added.
        top, left = geometry.offset
        stride = geometry.stride
        geometry = Deconvolution(stride, geometry.kernel_size, (top + stride, left + stride))
        scores = F.pad(scores, (1, 1, 1, 1))
    count = max(1, CHUNK // (size[0] * size[1]))
    shape = (min(count, len(scores)), 2, *scores.shape[1:])
    # Of the classes -score and -limit, the second wins if score > limit; if they are equal, or the
    # score is NaN, the first.
    dtype = _common.accumulate_dtype(scores)
    two = scores.new_full(shape, -_within(limit, dtype), dtype=dtype)
    for first in range(0, len(scores), count):
        part = slice(first, first + count)
        chunk = scores[part]
        two[: len(chunk), 0].copy_(chunk).neg_()
        yield part, _bytes(ops.argmax(two[: len(chunk)], size, geometry), torch.bool)


def _bytes(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes 0 and 1 as another one-byte ``dtype``, without a copy."""
    return values.view(dtype) if _has_views_of_bytes() else values.to(dtype)


def _has_views_of_bytes() -> bool:
    """Whether tensors can be viewed in another dtype, which torch.jit.trace cannot record and torch
    2.11 cannot batch."""
    return is_dynamo_compiling() or not (_is_tracing() or _transforms_active())


def _extent(masks: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Areas (K,) and boxes (K, 4) of masks (K, H, W), which are also given as words."""
    in_row = ((words * _EACH_BYTE) >> 56).sum(2)
    area = in_row.sum(1)
    sides = []
    for seen in (_bytes(masks, torch.uint8).amax(1), (in_row > 0).to(torch.uint8)):
        first = seen.argmax(1)
        past = seen.shape[1] - seen.flip(1).argmax(1)
        sides.append((first, torch.where(area > 0, past, 0)))
    (x0, x1), (y0, y1) = sides
    return area, torch.stack([x0, y0, x1, y1], 1)


# The product of a word of eight bytes, each 0 or 1, and one of these has in its highest byte their
# sum, or the eight as bits, the first one highest.
_EACH_BYTE = 0x0101010101010101
_EACH_BIT = 0x8040201008040201 - 2**64


def _words(masks: Tensor) -> Tensor:
    """Words of eight pixels: bool (..., W) as int64 (..., ceil(W / 8)), padded with zeros."""
    bytes = _bytes(masks, torch.uint8)
    if missing := -masks.shape[-1] % 8:
        bytes = F.pad(bytes, (0, missing))
    if not _has_views_of_bytes():
        place = torch.arange(0, 64, 8, device=bytes.device)
        groups: Tensor = bytes.unflatten(-1, (-1, 8)).to(torch.int64)
        return (groups << place).sum(-1)
    return bytes.view(torch.int64)


def _bits(words: Tensor) -> Tensor:
    """Eight pixels per byte, uint8, as np.packbits."""
    return (((words * _EACH_BIT) >> 56) & 255).to(torch.uint8)
