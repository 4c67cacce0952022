"""How much the windows of an image weigh in each of its pixels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, eq=False)
class WeightTable:
    """The sum of the weights: for each field that the windows' borders leave, or, where a window's
    pixels weigh different amounts, for every pixel of the rows that are asked for."""

    rows: list[Span]
    columns: list[Span]
    weights: np.ndarray
    windows: Sequence[Weighted]

    @classmethod
    def of(cls, size: tuple[int, int], windows: Sequence[Weighted]) -> WeightTable:
        """The table of an image of ``size``.

        Raises:
            ValueError: the windows leave a pixel out.
        """
        rows = _between(size[0], [window.rows for window in windows])
        columns = _between(size[1], [window.columns for window in windows])
        weights = np.zeros((len(rows), len(columns)))
        for window in windows:
            down = [span.within(window.rows).length > 0 for span in rows]
            across = [span.within(window.columns).length > 0 for span in columns]
            weights[np.ix_(down, across)] += window.weight
        if not weights.all():
            row, column = np.argwhere(weights == 0)[0]
            raise ValueError(
                "the windows added must cover the image, got none that has pixel "
                f"({rows[row].first}, {columns[column].first})"
            )
        return cls(rows, columns, weights, windows)

    def divide(self, sums: Tensor, rows: Span) -> None:
        """Makes averages of the sums of some ``rows`` (N, C, rows, width), in place."""
        shares = [(window, rows.within(window.rows)) for window in self.windows]
        given = [(window, of, window.weights(of)) for window, of in shares if of.length > 0]
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
