"""Everyone who is timed computes the right thing, and who does not is found out."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.accuracy import Accuracy
from benchmarks.cases import GRID, QUICK, Row, rows
from benchmarks.implementations import IMPLEMENTATIONS, Implementation, implementations
from benchmarks.workloads import Workload, build

CPU = torch.device("cpu")
ROWS = [row.shrunk() for row in rows()]


def checked(row: Row, implementation: Implementation) -> dict[str, Any]:
    workload = build(row, CPU)
    return Accuracy(workload).check(implementation, implementation.prepare(workload)())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_all_agree_with_the_specification(row: Row) -> None:
    chosen = implementations(row.operator, "cpu", compiled=False)
    assert {"fcn_ext"} < {implementation.name for implementation in chosen}
    for implementation in chosen:
        found = checked(row, implementation)
        assert found["correct"], (implementation.name, found)


@pytest.mark.parametrize(
    "operator",
    [
        "upsample",
        "upsample_backward",
        "fuse_skip_backward",
        "interpolate_cross_entropy",
        "upsample_cross_entropy",
        "interpolate_accuracy_cross_entropy",
        "interpolate_dice_cross_entropy",
        "interpolate_sigmoid_cross_entropy",
        "interpolate_argmax",
        "interpolate_confusion_matrix",
    ],
)
def test_compiled_functions_agree(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", eager)
    # So few cells of trained scores have one class.
    row = next(r for r in ROWS if r.operator == operator and r.variant.scores != "trained")
    for implementation in IMPLEMENTATIONS[operator]:
        if implementation.compiled:
            assert checked(row, implementation)["correct"]
    torch._dynamo.reset()


def wrong(workload: Workload, *maps: torch.Tensor) -> torch.Tensor:
    right: torch.Tensor = _project(workload).function(workload, *maps)
    if right.dtype == torch.int64:
        return right + torch.eye(len(right), dtype=torch.int64)
    return right * (1 + 1e-3)


def not_a_number(workload: Workload, *maps: torch.Tensor) -> torch.Tensor:
    right: torch.Tensor = _project(workload).function(workload, *maps)
    right[0, 0, 0, 0] = float("nan")
    return right


def _project(workload: Workload) -> Implementation:
    return IMPLEMENTATIONS[workload.row.operator][0]


@pytest.mark.parametrize("operator", ["upsample", "fuse_skip", "confusion_matrix"])
def test_a_wrong_result_is_found(operator: str) -> None:
    row = next(row for row in ROWS if row.operator == operator)
    found = checked(row, Implementation("wrong", wrong))
    assert not found["correct"]
    if operator == "confusion_matrix":
        assert found["wrong_counts"] == row.case.num_classes  # type: ignore[union-attr]


def test_a_nan_is_found() -> None:
    assert not checked(ROWS[0], Implementation("nan", not_a_number))["correct"]


def test_planes_that_are_compared_include_the_last() -> None:
    row = replace(ROWS[0], case=replace(ROWS[0].case, channels=100))  # type: ignore[arg-type]
    workload = build(row, CPU)
    planes = workload.checked(workload.maps[0])[0]
    assert planes.shape[0] == 64
    assert torch.equal(planes[-1, 0], workload.maps[0][-1, -1])


def test_minimal_bytes() -> None:
    row = next(rows(("upsample/voc-s8/float32",)))
    assert build(row, CPU).minimal_bytes == 2 * 21 * 4 * (500 * 500 + 63 * 63)
    row = next(rows(("fuse_skip/voc-pool3/float32",)))
    assert build(row, CPU).minimal_bytes == 2 * 21 * 4 * (34 * 34 + 2 * 70 * 70)
    row = next(rows(("confusion_matrix/voc/small-random",)))
    assert build(row.shrunk(), CPU).minimal_bytes == 2 * 2 * 40 * 50
    row = next(rows(("interpolate_cross_entropy/voc-s32/bfloat16",)))
    assert build(row, CPU).minimal_bytes == 2 * 2 * 21 * 16 * 16 + 8 * 500 * 500
    row = next(rows(("interpolate_argmax/voc-s32/float32-trained",)))
    assert build(row, CPU).minimal_bytes == 4 * 21 * 16 * 16 + 500 * 500


def test_registry() -> None:
    names = [row.name for row in (*rows(), *rows(grid="sweep"))]
    assert len(names) == len(set(names))
    assert set(GRID) == set(IMPLEMENTATIONS)
    assert all(list(rows((pattern,))) for pattern in QUICK)
    for chosen in IMPLEMENTATIONS.values():
        assert len({implementation.name for implementation in chosen}) == len(chosen)
    assert not any(i.cpu_only for i in implementations("confusion_matrix", "cuda", compiled=True))
