"""How many pixels of a prediction are wrong, judged by float64 averages and logits."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.implementations import Implementation
from benchmarks.predictions import boxes, canvas_of_views, canvas_of_windows
from benchmarks.views import own_sizes
from benchmarks.workloads import Workload

CANVAS = {"predict_windows": canvas_of_windows, "predict_views": canvas_of_views}


class PredictionAccuracy:
    """Compares the results of one row; the truth is computed once."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def check(self, implementation: Implementation, result: Any) -> dict[str, Any]:
        """``wrong_labels``, and ``close_calls``: pixels that rounding may flip. Areas and boxes
        that do not match the masks count as wrong, too."""
        wrong = close_calls = 0
        operator = self._workload.row.operator
        if operator == "predict_masks":
            masks, area, box = result
            wrong = int((area != masks.sum((2, 3))).sum()) + int((box != boxes(masks)).sum())
            result = masks
        found = result if isinstance(result, list) else [result]
        for labels, (truth, gap) in zip(found, self._truth, strict=True):
            close = gap <= self._rounding(implementation)
            wrong += int(((labels.to(truth.dtype) != truth) & ~close).sum())
            close_calls += int(close.sum())
        return {"wrong_labels": wrong, "close_calls": close_calls, "correct": wrong == 0}

    def _rounding(self, implementation: Implementation) -> float:
        """As for the heads: the weights of peers carry the error of a float32 coordinate."""
        maps = self._workload.maps
        eps = torch.finfo(torch.float32).eps
        units = 16 * eps
        if implementation.kind != "project":
            units += 2 * max(max(map.shape[2:]) for map in maps) * eps
        return units * max(float(map.abs().max()) for map in maps)

    @cached_property
    def _truth(self) -> list[tuple[Tensor, Tensor]]:
        """Labels, and by how much each leads, for every predicted map."""
        w, maps = self._workload, [map.double() for map in self._workload.maps]
        if w.row.operator == "predict_masks":
            logits = F.interpolate(maps[0], w.case.size, mode="bilinear")
            return [(logits > 0, logits.abs_())]
        if w.row.operator == "predict_sizes":
            sizes = own_sizes(w.case, len(maps[0]))
            return [
                _winners(F.interpolate(maps[0][i : i + 1], size, mode="bilinear"), squeezed=True)
                for i, size in enumerate(sizes)
            ]
        return [_winners(CANVAS[w.row.operator](w, *maps))]


def _winners(scores: Tensor, squeezed: bool = False) -> tuple[Tensor, Tensor]:
    best, labels = scores.topk(2, dim=1)
    found = labels[:, 0], best[:, 0] - best[:, 1]
    return (found[0][0], found[1][0]) if squeezed else found
