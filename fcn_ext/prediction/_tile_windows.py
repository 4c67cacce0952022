"""tile_windows: the windows of an image that is predicted piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

from fcn_ext.ops import _common
from fcn_ext.prediction._place import Window


def tile_windows(
    size: int | Sequence[int], tile: int | Sequence[int], overlap: int | Sequence[int] = 0
) -> list[Window]:
    """Windows (top, left, height, width) that cover an image, row by row.

    Neighbors share at least ``overlap`` pixels: the last window of each row and column is moved
    back to end at the border of the image (mmsegmentation's ``slide_inference`` with stride ``tile
    - overlap``). If the image is smaller than a tile, so are the windows.

        >>> tile_windows((512, 1000), 512, overlap=100)
        [(0, 0, 512, 512), (0, 412, 512, 512), (0, 488, 512, 512)]

    Args:
        size: rows and columns of the image, >= 1; one number or (height, width).
        tile: rows and columns of a window, >= 1; one number or (height, width).
        overlap: rows and columns that neighbors share at least, in [0, tile); one number or a pair.

    Raises:
        TypeError: an argument is not an integer or a pair of integers.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    sides = []
    for whole, side, shared in zip(
        _common.pair(size, "size"),
        _common.pair(tile, "tile"),
        _common.pair(overlap, "overlap"),
        strict=True,
    ):
        if whole < 1:
            raise ValueError(f"size must be >= 1, got {size!r}")
        if side < 1:
            raise ValueError(f"tile must be >= 1, got {tile!r}")
        if not 0 <= shared < side:
            raise ValueError(f"overlap must be in [0, tile), got {overlap!r} for {tile!r}")
        last = max(0, whole - side)
        firsts = (*range(0, last, side - shared), last)
        sides.append([(first, min(side, whole)) for first in firsts])
    return [(top, left, height, width) for top, height in sides[0] for left, width in sides[1]]
