"""The total weight of the windows of an image at each of its pixels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from fcn_ext.prediction._rows import Span


class Weighted(Protocol):
    """A window."""

    @property
    def rows(self) -> Span: ...
    @property
    def columns(self) -> Span: ...
    @property
    def weight(self) -> float: ...
    def weights(self, rows: Span) -> np.ndarray | None: ...


T = TypeVar("T", bound=Weighted)


@dataclass(frozen=True, eq=False)
class WeightTable(Generic[T]):
    """The sum of the weights: one number for each rectangle between the borders of windows or, if
    the pixels of a window have different weights, for every pixel of the requested rows."""

    rows: list[Span]
    columns: list[Span]
    weights: np.ndarray
    windows: Sequence[T]
    spans: np.ndarray
    """The rows of each window, int64 (windows, 2)."""

    @classmethod
    def of(cls, size: tuple[int, int], windows: Sequence[T]) -> WeightTable[T]:
        """The table of an image of ``size``.

        Raises:
            ValueError: the windows leave a pixel out.
        """
        rows = _between(size[0], [window.rows for window in windows])
        columns = _between(size[1], [window.columns for window in windows])
        weights = np.zeros((len(rows), len(columns)))
        row_of = {span.first: number for number, span in enumerate(rows)}
        column_of = {span.first: number for number, span in enumerate(columns)}
        for window in windows:
            down = slice(row_of[window.rows.first], row_of.get(window.rows.last))
            across = slice(column_of[window.columns.first], column_of.get(window.columns.last))
            weights[down, across] += window.weight
        if not weights.all():
            row, column = np.argwhere(weights == 0)[0]
            raise ValueError(
                "the windows added must cover the image, got none with pixel "
                f"({rows[row].first}, {columns[column].first})"
            )
        spans = np.array([window.rows for window in windows], dtype=np.int64).reshape(-1, 2)
        return cls(rows, columns, weights, windows, spans)

    def windows_with(self, rows: Span) -> list[T]:
        """The windows that contain some of these rows, in order: of thousands, usually a few."""
        first, last = self.spans.T
        touched = np.flatnonzero((first < rows.last) & (last > rows.first))
        return [self.windows[i] for i in touched.tolist()]

    def divide(self, sums: Tensor, rows: Span) -> None:
        """Divides the sums of some ``rows`` (N, C, rows, width) by the weights, in place."""
        shares = [(window, rows.within(window.rows)) for window in self.windows_with(rows)]
        given = [(window, of, window.weights(of)) for window, of in shares]
        if any(weights is not None for _, _, weights in given):
            total = np.zeros((rows.length, sums.shape[3]))
            for window, of, weights in given:
                place = total[of.past(rows.first).slice, window.columns.slice]
                place += window.weight if weights is None else weights
            sums /= torch.from_numpy(total).to(sums.device, sums.dtype)
            return
        for row, weights in zip(self.rows, self.weights, strict=True):
            shared = rows.within(row)
            if shared.length <= 0:
                continue
            field = sums[:, :, shared.past(rows.first).slice]
            for column, weight in zip(self.columns, weights.tolist(), strict=True):
                if weight != 1:
                    field[..., column.slice] /= weight


def _between(whole: int, spans: list[Span]) -> list[Span]:
    """``[0, whole)`` cut at the borders of ``spans``."""
    borders = sorted({0, whole}.union(*spans))
    return [Span(*pair) for pair in itertools.pairwise(borders)]
