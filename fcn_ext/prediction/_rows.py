"""Computes only some rows of scores at full size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Geometry
from fcn_ext.ops import _common
from fcn_ext.prediction._place import Window


class Span(NamedTuple):
    """Rows or columns, ``[first, last)``."""

    first: int
    last: int

    def within(self, other: Span) -> Span:
        """The intersection; its length is zero or negative if it is empty."""
        return Span(max(self.first, other.first), min(self.last, other.last))

    def past(self, origin: int) -> Span:
        """The same rows or columns, counted from ``origin``."""
        return Span(self.first - origin, self.last - origin)

    @property
    def slice(self) -> slice:
        return slice(self.first, self.last)

    @property
    def length(self) -> int:
        return self.last - self.first


# Scores to work on at a time, over all images and classes; at least a row.
TILE = 2**19


def tiles(height: int, row: int) -> list[Span]:
    """The rows of a map with ``row`` scores each, split into tiles of about ``TILE`` scores."""
    count = max(1, TILE // max(1, row))
    return [Span(first, min(first + count, height)) for first in range(0, height, count)]


def full_rows(scores: Tensor, rows: Span, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """``rows`` of the scores at full ``size``: (N, C, rows, width), float32 or float64."""
    if isinstance(geometry, Deconvolution):
        top, left = geometry.offset
        return ops.upsample(
            scores.to(_common.accumulate_dtype(scores)),
            geometry.stride,
            kernel_size=geometry.kernel_size,
            offset=(top + rows.first, left),
            output_size=(rows.length, size[1]),
        )
    resized = resized_rows(scores, rows, size[0], geometry.align_corners)
    return ops.interpolate(resized, (rows.length, size[1]), align_corners=geometry.align_corners)


def resized_rows(
    scores: Tensor,
    rows: Span,
    height: int,
    align_corners: bool,
    held: tuple[int, int] | None = None,
) -> Tensor:
    """``rows`` of the scores resized to ``height`` rows and as many columns as they have.

    ``held``, (first, inputs): the scores are rows from ``first`` on of a map with ``inputs`` rows.
    """
    first, inputs = (0, scores.shape[2]) if held is None else held
    nodes, upper_weights, lower_weights = _taps(inputs, rows, height, align_corners)
    nodes -= first
    dtype, device = _common.accumulate_dtype(scores), scores.device
    if not upper_weights.any():
        return scores.index_select(2, torch.from_numpy(nodes).to(device)).to(dtype)
    # Both nodes of each row at once: each step shares its work out to threads, which takes time.
    above = np.minimum(nodes + 1, int(scores.shape[2]) - 1)
    both = scores.index_select(2, torch.from_numpy(np.concatenate((nodes, above))).to(device))
    both = both.to(dtype)
    weights = torch.from_numpy(np.concatenate((lower_weights, upper_weights))).to(device, dtype)
    if upper_weights.all():
        both.mul_(weights.view(-1, 1))
        lower, upper = both.tensor_split(2, 2)
        return lower.add_(upper)
    # An output on a node reads only that node: the next one may be infinite.
    lower, upper = both.tensor_split(2, 2)
    lower_weight, upper_weight = weights.view(2, -1, 1)
    return torch.where(upper_weight == 0, lower, (upper * upper_weight).add_(lower * lower_weight))


def cropped_rows(
    scores: Tensor,
    rows: Span,
    height: int,
    full: tuple[int, int],
    window: Window,
    geometry: Geometry,
    align_corners: bool,
) -> Tensor:
    """``rows`` of a ``window`` of the scores at ``full`` size, resized to ``height`` rows and as
    many columns as it has."""
    top, left, inner, width = window
    read = read_rows(rows, inner, height, align_corners)
    found = full_rows(scores, Span(top + read.first, top + read.last), full, geometry)
    own = found[..., left : left + width]
    return resized_rows(own, rows, height, align_corners, (read.first, inner))


def read_rows(rows: Span, inputs: int, height: int, align_corners: bool) -> Span:
    """The nodes that are needed for ``rows`` of ``inputs`` nodes resized to ``height``."""
    nodes, upper_weights, _ = _taps(inputs, Span(rows.last - 1, rows.last), height, align_corners)
    last = int(nodes[0]) + (2 if upper_weights[0] > 0 else 1)
    nodes, _, _ = _taps(inputs, Span(rows.first, rows.first + 1), height, align_corners)
    return Span(int(nodes[0]), last)


def _taps(
    inputs: int, rows: Span, height: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lower node of each row, and the weights of the next one and of itself.

    Positions are exact integers, as in csrc/common/geometry.h; tests/prediction/test_rows.py
    compares with the operators.
    """
    inputs, height = int(inputs), int(height)  # which tracing may have as tensors or symbols
    if not align_corners:
        step, start, denominator = 2 * inputs, inputs - height, 2 * height
    elif height > 1:
        step, start, denominator = inputs - 1, 0, height - 1
    else:
        step, start, denominator = 0, 0, 1
    scaled = np.arange(rows.first, rows.last, dtype=np.int64) * step + start
    scaled = np.clip(scaled, 0, (inputs - 1) * denominator)
    nodes = scaled // denominator
    past = scaled - nodes * denominator
    return nodes, past / denominator, (denominator - past) / denominator
