"""The scores of one window, their weights, and their mirror image."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.prediction._importance import along_axis
from fcn_ext.prediction._rows import Span, cropped_rows, full_rows, interpolated


class WindowScores(NamedTuple):
    """The scores of one window, and where they lie in the image."""

    scores: Tensor
    rows: Span
    columns: Span
    geometry: Geometry
    weight: float
    seen: tuple[int, int] | None
    aligned: bool
    """Whether corners are aligned in the resize from the size that the net saw to the window's."""
    importance: str

    def weights(self, rows: Span) -> np.ndarray | None:
        """The weights of the pixels of some rows of the image, (rows, width); None if all are the
        same."""
        down = along_axis(self.importance, self.rows.length)
        across = along_axis(self.importance, self.columns.length)
        if down is None or across is None:
            return None
        table: np.ndarray = self.weight * down[rows.past(self.rows.first).slice, None] * across
        return table

    def full(self, rows: Span) -> Tensor:
        """Some rows of the window, (N, C, rows, width)."""
        size = (self.rows.length, self.columns.length)
        if self.seen is None:
            return full_rows(self.scores, rows, size, self.geometry)
        found, second = cropped_rows(
            self.scores, rows, size, self.seen, (0, 0, *self.seen), self.geometry, self.aligned
        )
        return interpolated(found, (rows.length, size[1]), second)


def aligns_corners(geometry: Geometry) -> bool:
    """Whether corners are aligned. Then a map of one column shows the first score, mirrored or
    not."""
    return isinstance(geometry, Resize) and geometry.align_corners


def mirrored(scores: Tensor, size: tuple[int, int], geometry: Geometry) -> tuple[Tensor, Geometry]:
    """Scores and geometry of the image, from those of its mirror image."""
    scores = scores.flip(3)
    top, left = geometry.offset
    # The cropped window is now as far from the other border.
    if isinstance(geometry, Resize):
        if geometry.uncropped_size is not None:
            offset = (top, geometry.uncropped_size[1] - size[1] - left)
            geometry = replace(geometry, offset=offset)
        return scores, geometry
    kernel_size = geometry.kernel_size
    whole = (scores.shape[3] - 1) * geometry.stride + kernel_size
    return scores, Deconvolution(geometry.stride, kernel_size, (top, whole - size[1] - left))
