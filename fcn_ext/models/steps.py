"""One axis of an operation: which cells of its input the cells of its result read.

Operations treat rows and columns separately, so two steps say what a cell of the result sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..geometry import Grid

__all__ = [
    "Step",
    "adaptive",
    "both",
    "everything",
    "mirrored",
    "repeated",
    "resized",
    "shifted",
    "stretched",
    "transposed",
    "unmoved",
    "window",
]


@dataclass(frozen=True, eq=False)
class Step:
    """One axis of an operation.

    Attributes:
        reads: from cells of the result (k,) to the cells of the input (k, taps) that they read;
            those outside of the input are left out afterwards.
        grid: from the input's grid to the result's; None if the result has none.
    """

    reads: Callable[[np.ndarray, int], np.ndarray]
    grid: Callable[[Grid], Grid] | None


# Each element of the result comes from the one at the same position.
unmoved = Step(lambda cells, size: cells[:, None], lambda grid: grid)
# Every element depends on the whole input: means over an image, matrix products, and operations
# that reads.py does not know.
everything = Step(
    lambda cells, size: np.broadcast_to(np.arange(size), (len(cells), size)),
    None,
)
# Every element depends on a single cell, by broadcasting.
stretched = Step(lambda cells, size: np.zeros((len(cells), 1), dtype=np.int64), None)


def window(kernel_size: int, stride: int, padding: int, dilation: int) -> Step:
    """A convolution or a pooling."""
    taps = np.arange(kernel_size) * dilation - padding
    return Step(
        lambda cells, size: cells[:, None] * stride + taps,
        lambda grid: grid.window(kernel_size, stride=stride, padding=padding, dilation=dilation),
    )


def shifted(padding: int, step: int = 1) -> Step:
    """A padding with a constant, or a crop where ``padding`` is negative; every ``step``-th."""
    return window(1, step, padding, 1)


def transposed(kernel_size: int, stride: int, padding: int, dilation: int) -> Step:
    """A transposed convolution; ``padding`` is what it crops."""
    reach = dilation * (kernel_size - 1)
    taps = np.arange(kernel_size) * dilation

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        places = cells[:, None] + padding - taps
        return np.asarray(np.where(places % stride == 0, places // stride, -1))

    def grid(of: Grid) -> Grid:
        return Grid(
            of.scale * stride,
            of.shift * stride + Fraction(reach, 2) - padding,
            of.receptive_field + reach // stride * of.stride,
        )

    return Step(reads, grid)


def resized(
    size: int, new: int, align_corners: bool, scale: float | None, nearest: bool, first: int = 0
) -> Step:
    """An interpolation from ``size`` to ``new`` cells, and those of them from ``first`` on."""
    ratio = Fraction(new, size) if scale is None else Fraction(scale)
    shift = (ratio - 1) / 2
    if align_corners:
        ratio, shift = (Fraction(new - 1, size - 1) if size > 1 < new else Fraction(new)), shift * 0
    shift -= first

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        if nearest:
            # In float32 whatever the map's dtype, as torch does: for a cell on the border of two,
            # rounding decides.
            step = np.float32(size) / np.float32(new) if scale is None else np.float32(1 / scale)
            places = np.floor(cells.astype(np.float32) * step)
            return np.asarray(np.minimum(places, size - 1).astype(np.int64)[:, None])
        places = np.clip((cells - float(shift)) / float(ratio), 0, size - 1)
        return np.stack([np.floor(places), np.ceil(places)], 1).astype(np.int64)

    def grid(of: Grid) -> Grid:
        seen = of.receptive_field + (0 if nearest else of.stride)
        return Grid(of.scale * ratio, of.shift * ratio + shift, seen)

    return Step(reads, grid)


def adaptive(size: int, new: int) -> Step:
    """An adaptive pooling from ``size`` to ``new`` cells."""
    if size % new == 0:
        return window(size // new, size // new, 0, 1)

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        first, end = cells * size // new, -(-(cells + 1) * size // new)
        taps = first[:, None] + np.arange((end - first).max(initial=1))
        return np.asarray(np.where(taps < end[:, None], taps, -1))

    return Step(reads, None)


def mirrored(padding: int) -> Step:
    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        places = np.abs(cells - padding)[:, None]
        return np.asarray(np.minimum(places, 2 * (size - 1) - places))

    return Step(reads, lambda grid: grid.window(1, padding=padding))


def repeated(padding: int) -> Step:
    return Step(
        lambda cells, size: np.clip(cells - padding, 0, size - 1)[:, None],
        lambda grid: grid.window(1, padding=padding),
    )


def both(value: Any) -> list[int]:
    """A number for rows and one for columns, of an argument of one, two or three numbers."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return [*numbers, *numbers][-2:] if len(numbers) == 1 else numbers[-2:]
