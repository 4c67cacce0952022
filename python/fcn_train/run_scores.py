"""The scores in the folder of a run: ``metrics.json`` and the tables of steps."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcn_train.errors import UsageError
from fcn_train.history import SCORES, score_column
from fcn_train.json_text import parse_json

Row = dict[str, float]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run folder; empty if there is none.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a run folder") from None
    return values if isinstance(values, dict) else {}


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table of numbers, by its header; none if there is no file. An empty cell is
    NaN: the run was begun by an older version that did not log this.

    Raises:
        UsageError: the file cannot be read, or lacks some of ``columns``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {key: math.nan if cell == "" else float(cell) for key, cell in row.items()}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a run folder") from None
    lacking = [name for name in columns if any(name not in row for row in rows)]
    if lacking:
        raise UsageError(f"{path}: has no column {' or '.join(lacking)}; give a run folder")
    return rows


def read_training(folder: Path) -> list[Row]:
    """The rows of ``training.csv``. Raises like ``read_table``."""
    return read_table(folder / "training.csv", ("step", "loss"))


def read_evaluations(folder: Path, label_sets: Sequence[str]) -> list[list[Row]]:
    """For each set of labels, the rows of ``evaluations.csv``: ``step``, and the scores in
    ``history.SCORES``. Raises like ``read_table``."""
    columns = [score_column(name, score) for name in label_sets for score in SCORES]
    rows = read_table(folder / "evaluations.csv", ("step", *columns))
    return [
        [
            {"step": row["step"], **{score: row[score_column(name, score)] for score in SCORES}}
            for row in rows
        ]
        for name in label_sets
    ]


def best_row(rows: Sequence[Row]) -> int | None:
    """The number of the first row with the greatest mean IU; None if it is NaN in all."""
    known = [number for number, row in enumerate(rows) if not math.isnan(row["mean_iu"])]
    return max(known, key=lambda number: rows[number]["mean_iu"], default=None)


def scores_by_set(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of ``metrics.json`` for each set of labels, by name; "" is the only set."""
    found: Mapping[str, Any] = metrics.get("label_sets", {"": metrics} if metrics else {})
    return found
