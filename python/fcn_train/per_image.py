"""Counts of each image of a split, collected while the whole split is counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_ext.metrics import ConfusionMatrix
from fcn_train.heads import head_list, in_order
from fcn_train.options import Logits
from fcn_train.processes import Processes
from fcn_train.views import Views

Add = Callable[[ConfusionMatrix, Tensor, slice], None]
"""Add the counts of some images of a batch, whose targets are given, to a matrix."""


def batch_counters(model: Any, images: Tensor, logits: Logits, views: Views) -> list[Add]:
    """Run ``model`` on a batch; returns for each head what counts its predictions.

    Args:
        model: a network with one head or several.
        images: (N, channels, H, W).
        logits: "coarse" counts straight from the coarse scores, "full" from every pixel's logits.
        views: what the network sees of each image; of several, the winners of the average count.
    """

    def of_predictions(made: Tensor) -> Add:
        return lambda matrix, target, some: matrix.update(made[some], target[some])

    def of_scores(scores: Tensor, geometry: Any) -> Add:
        return lambda matrix, target, some: matrix.update_scores(
            scores[some], target[some], geometry
        )

    if views.several:
        return [of_predictions(average.argmax()) for average in views.average(model, images)]
    if logits == "full":
        return [of_predictions(made) for made in in_order(model(images))]
    pairs = zip(in_order(model.scores(images)), head_list(model), strict=True)
    return [of_scores(scores, head.geometry) for scores, head in pairs]


class ImageCounts:
    """For each image and set of labels, the two terms of each class's IU: its correct pixels, and
    its union of label and prediction.

    Attributes:
        ids: names of the images counted so far.
        finite: whether the network gave finite scores for all of them.
    """

    def __init__(self) -> None:
        self.finite = True
        self.ids: list[str] = []
        self._hits: list[list[Tensor]] = []
        self._unions: list[list[Tensor]] = []

    def add(
        self,
        ids: Sequence[str],
        adds: Sequence[Add],
        matrices: Sequence[ConfusionMatrix],
        targets: Sequence[Tensor],
    ) -> None:
        """Count a batch into ``matrices``, and each of its images here."""
        before = [matrix.matrix for matrix in matrices]
        for index, name in enumerate(ids):
            hits, unions = [], []
            for which, (add, matrix, target) in enumerate(
                zip(adds, matrices, targets, strict=True)
            ):
                add(matrix, target, slice(index, index + 1))
                after = matrix.matrix
                counts, before[which] = after - before[which], after
                hits.append(counts.diagonal())
                unions.append(counts.sum(0) + counts.sum(1) - counts.diagonal())
            self.ids.append(name)
            self._hits.append(hits)
            self._unions.append(unions)

    def gather(self, here: Processes) -> None:
        """Give each of several processes that count a split together the images of all."""
        if not here.several:
            return
        found = here.collected((self.ids, _on_cpu(self._hits), _on_cpu(self._unions)))
        self.ids, self._hits, self._unions = (
            [item for part in parts for item in part] for parts in zip(*found, strict=True)
        )

    def mean_iu(self, which: int = 0) -> np.ndarray:
        """The mean IU of each image in the set of labels number ``which``, (images,) float64:
        over the classes in its label or its prediction, NaN if the label is void everywhere."""
        if not self.ids:
            return np.empty(0)
        hits, unions = (
            torch.stack([row[which] for row in rows]).cpu().numpy()
            for rows in (self._hits, self._unions)
        )
        return np.array([mean_iu(*terms) for terms in zip(hits, unions, strict=True)])


def mean_iu(hits: np.ndarray, unions: np.ndarray) -> float:
    """The mean IU of an image from the correct pixels and the union of label and prediction of each
    class, both (C,): over the classes with a union, NaN if there are none."""
    present = unions > 0
    return float((hits[present] / unions[present]).mean()) if present.any() else math.nan


def _on_cpu(rows: list[list[Tensor]]) -> list[list[Tensor]]:
    return [[values.cpu() for values in row] for row in rows]


def extremes(values: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """The indices of the ``count`` lowest values, the lowest first, and of the highest of the
    others, the highest first; NaN is neither."""
    order = [int(i) for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    lowest = order[:count]
    highest = order[len(lowest) :][::-1][:count]
    return lowest, highest
