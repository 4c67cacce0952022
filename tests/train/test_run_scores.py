"""The scores in a run folder, as `fcn compare` and the model card read them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fcn_ext.metrics import Scores, scores_from_matrix
from fcn_train.errors import UsageError
from fcn_train.history import SCORES, History
from fcn_train.run_scores import (
    best_row,
    read_evaluations,
    read_json,
    read_table,
    read_training,
    scores_by_set,
)


def scores(right: int, wrong: int) -> Scores:
    """Of two classes; NaN where there is no pixel."""
    return scores_from_matrix(np.array([[right, wrong], [0, right]]))


@pytest.mark.parametrize("label_sets", [[""], ["semantic", "geometric"]])
def test_evaluations_are_those_that_were_logged(label_sets: list[str], tmp_path: Path) -> None:
    history = History(label_sets)
    logged = [[scores(1 + step, 3 + which) for which in range(len(label_sets))] for step in (0, 1)]
    for step, of_sets in enumerate(logged, 1):
        history.add_scores(step, 0.5 * step, *of_sets)
    history.write(tmp_path)
    found = read_evaluations(tmp_path, label_sets)
    assert len(found) == len(label_sets)
    for which, rows in enumerate(found):
        assert [row["step"] for row in rows] == [1, 2]
        for row, of_sets in zip(rows, logged, strict=True):
            assert row.keys() == {"step", *SCORES}
            for name in SCORES:
                assert row[name] == pytest.approx(getattr(of_sets[which], name), rel=1e-7)


def test_best_row_is_none_without_a_score(tmp_path: Path) -> None:
    """A first row of NaN does not win, as it would with a plain ``max``."""
    history = History()
    for step, pixels in enumerate((0, 1, 9, 0, 9), 1):
        history.add_scores(step, step, scores(pixels, pixels and 1))
    history.write(tmp_path)
    (rows,) = read_evaluations(tmp_path, [""])
    assert [math.isnan(row["mean_iu"]) for row in rows] == [True, False, False, True, False]
    assert best_row(rows) == 2
    assert best_row(rows[:2]) == 1
    assert best_row(rows[:1]) is None
    assert best_row([]) is None


def test_empty_cells_are_nan(tmp_path: Path) -> None:
    """As a run of several heads has them whose first steps did not log the loss of each."""
    history = History(["a", "b"])
    history.add_loss(1, 1, 0.1, 2.0, every=1)
    history.note_heads([0.5, 1.0])
    history.add_loss(2, 2, 0.1, 1.5, every=1)
    history.write(tmp_path)
    assert "1,1,0.1,2,,\n" in (tmp_path / "training.csv").read_text()
    first, second = read_training(tmp_path)
    assert (first["step"], first["loss"]) == (1, 2)
    assert math.isnan(first["loss_a"])
    assert math.isnan(first["loss_b"])
    assert second["loss_b"] == 1


def test_files_that_are_absent_hold_nothing(tmp_path: Path) -> None:
    assert read_json(tmp_path / "metrics.json") == {}
    assert read_training(tmp_path) == []
    assert read_evaluations(tmp_path, ["a", "b"]) == [[], []]
    assert scores_by_set({}) == {}
    assert scores_by_set({"mean_iu": 1}) == {"": {"mean_iu": 1}}
    assert scores_by_set({"label_sets": {"a": {}}}) == {"a": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step,loss\n1,x\n", "cannot be read .*'x'"),
        ("step,loss\n1\n", "cannot be read"),
        ("step,loss\n1,2,3\n", "cannot be read"),
        ("step\n1\n", "has no column loss; give a run folder"),
    ],
)
def test_tables_that_are_damaged_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=rf"some\.csv: {message}"):
        read_table(path, ("step", "loss"))


def test_json_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("{")
    with pytest.raises(UsageError, match=r"metrics\.json: cannot be read"):
        read_json(path)
    path.write_text("[]")
    assert read_json(path) == {}
