"""Computes only some rows of scores at full size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from fcn_ext import ops
from fcn_ext._line import Line, resize_line
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _common
from fcn_ext.ops._interpolate import _interpolate
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


# Scores to work on at a time, over all images and classes; at least a row. A GPU is given enough
# that starting its kernels takes little of the time.
TILE = 2**19
TILE_ON_CUDA = 2**23


def tiles(height: int, row: int, *, on_cuda: bool = False) -> list[Span]:
    """The rows of a map with ``row`` scores each, split into tiles of about ``TILE`` scores."""
    count = max(1, (TILE_ON_CUDA if on_cuda else TILE) // max(1, row))
    return [Span(first, min(first + count, height)) for first in range(0, height, count)]


@dataclass(frozen=True, repr=False)
class ResizeOfPart(Resize):
    """A resize of a map of ``nodes`` (height, width), of which the input has only the rows from
    ``first_row`` on: all those that the output reads."""

    nodes: tuple[int, int] = (0, 0)
    first_row: int = 0

    @property
    def numbers(self) -> tuple[int, ...]:
        return (*super().numbers, *self.nodes, self.first_row, 0)


def part_of_rows(
    nodes: tuple[int, int], rows: Span, size: tuple[int, int], align_corners: bool, left: int = 0
) -> tuple[Span, ResizeOfPart]:
    """The rows of ``nodes`` (height, width) that are read for ``rows`` of these resized to
    ``size``, and the geometry from them to ``rows``, from column ``left`` on."""
    height, width = (int(count) for count in nodes)  # which tracing may have as tensors or symbols
    line = resize_line(height, int(size[0]), align_corners)
    read = Span(*line.nodes_read(*rows))
    offset = (rows.first, left)
    return read, ResizeOfPart(align_corners, size, offset, (height, width), read.first)


def lines(
    scores: Tensor, size: tuple[int, int], geometry: Resize
) -> Iterator[tuple[Line, int, int]]:
    """For rows and columns, the line of pixels, and the first pixel and the first node on it."""
    uncropped = geometry.before_crop(size)
    nodes, firsts = (scores.shape[2], scores.shape[3]), (0, 0)
    if isinstance(geometry, ResizeOfPart):
        nodes, firsts = geometry.nodes, (geometry.first_row, 0)
    for axis in range(2):
        line = resize_line(nodes[axis], uncropped[axis], geometry.align_corners)
        yield line, geometry.offset[axis], firsts[axis]


def full_rows(
    scores: Tensor,
    rows: Span,
    size: tuple[int, int],
    geometry: Geometry,
    columns: Span | None = None,
) -> Tensor:
    """``rows`` and ``columns``, by default all, of the scores at full ``size``, in float32 or
    float64."""
    if columns is None:
        columns = Span(0, size[1])
    dtype = _common.accumulate_dtype(scores)
    top, left = geometry.offset
    if isinstance(geometry, Deconvolution):
        return ops.upsample(
            scores.to(dtype),
            geometry.stride,
            kernel_size=geometry.kernel_size,
            offset=(top + rows.first, left + columns.first),
            output_size=(rows.length, columns.length),
        )
    uncropped = geometry.before_crop(size)
    nodes = (scores.shape[2], scores.shape[3])
    place = Span(top + rows.first, top + rows.last)
    read, part = part_of_rows(nodes, place, uncropped, geometry.align_corners, left + columns.first)
    return interpolated(scores[:, :, read.slice].to(dtype), (rows.length, columns.length), part)


def interpolated(scores: Tensor, size: tuple[int, int], geometry: ResizeOfPart) -> Tensor:
    """The scores at ``size``."""
    aligned, *crop = geometry.numbers
    found: Tensor = _interpolate(scores, *size, bool(aligned), crop)
    return found


def cropped_rows(
    scores: Tensor,
    rows: Span,
    size: tuple[int, int],
    full: tuple[int, int],
    window: Window,
    geometry: Geometry,
    align_corners: bool,
) -> tuple[Tensor, ResizeOfPart]:
    """For ``rows`` of a ``window`` of the scores at ``full`` size, resized to ``size``: the rows of
    the window that are read for them, and the geometry from these."""
    top, left, height, width = window
    read, part = part_of_rows((height, width), rows, size, align_corners)
    place = Span(top + read.first, top + read.last)
    return full_rows(scores, place, full, geometry, Span(left, left + width)), part
