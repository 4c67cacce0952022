"""Predictions that are wrong are found out, and close calls are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import predictions
from benchmarks.accuracy import Accuracy
from benchmarks.cases import PREDICTIONS, MapCase, rows
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.views import VIEWS, own_sizes, score_size, windows
from benchmarks.workloads import Workload, build

CPU = torch.device("cpu")


def workload(operator: str) -> Workload:
    return build(next(rows((f"{operator}/",))).shrunk(), CPU)


def check(w: Workload, function: Any, kind: Any = "project") -> dict[str, Any]:
    implementation = Implementation("changed", function, kind)
    return Accuracy(w).check(implementation, implementation.prepare(w)())


@pytest.mark.parametrize("operator", PREDICTIONS)
@pytest.mark.parametrize("kind", ["project", "peer"])
def test_a_wrong_pixel_is_found(operator: str, kind: Any) -> None:
    right = IMPLEMENTATIONS[operator][0].function

    def changed(w: Workload, *maps: Tensor) -> Any:
        result = right(w, *maps)
        labels = result[0] if isinstance(result, (list, tuple)) else result
        labels.flatten()[7:8] = ~labels.flatten()[7:8]
        return result

    assert check(workload(operator), right, kind)["correct"]
    found = check(workload(operator), changed, kind)
    assert found["wrong_labels"] >= 1
    assert not found["correct"]


@pytest.mark.parametrize("part", [1, 2])
def test_a_wrong_area_or_box_is_found(part: int) -> None:
    def changed(w: Workload, scores: Tensor) -> Any:
        result = predictions.project_masks(w, scores)
        result[part].flatten()[0] += 1
        return result

    assert not check(workload("predict_masks"), changed)["correct"]


def test_boxes_of_masks() -> None:
    masks = torch.zeros(1, 2, 5, 6, dtype=torch.bool)
    masks[0, 1, 2:4, 1] = masks[0, 1, 3, 1:5] = True
    assert predictions.boxes(masks).tolist() == [[[0, 0, 0, 0], [1, 2, 5, 4]]]


def test_a_close_call_may_go_either_way() -> None:
    w = workload("predict_windows")
    w.maps = tuple(torch.zeros_like(map) for map in w.maps)
    found = check(w, lambda w, *maps: torch.ones(2, *w.case.size, dtype=torch.uint8))
    assert (found["wrong_labels"], found["close_calls"]) == (0, 2 * w.case.height * w.case.width)


def test_what_is_seen() -> None:
    case = MapCase("any", 1, 19, 1024, 2048, 8, cuda_batch=1)
    assert {window[2:] for window in windows(case)} == {(512, 512)}
    assert len(windows(case)) == 3 * 6
    assert VIEWS[:3] == [(0.75, False), (0.75, True), (1.0, False)]
    assert score_size((1024, 2048), 8, 0.75) == (96, 192)
    assert own_sizes(case, 4) == [(1024, 2730), (1365, 2048), (1024, 2048), (1024, 2730)]
