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
from fcn_train.shown import shown
from fcn_train.text_files import NOT_UTF8

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
        raise UsageError(f"{path}: cannot be read ({_why(error)}); give a run folder") from None
    return values if isinstance(values, dict) else {}


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table of numbers, by its header; none if there is no file. An empty cell is
    NaN: the run was begun by an older version that did not log this.

    Raises:
        UsageError: the file cannot be read, or lacks some of ``columns``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_numbers(number, row) for number, row in enumerate(csv.DictReader(file), 1)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({_why(error)}); give a run folder") from None
    lacking = [name for name in columns if any(name not in row for row in rows)]
    if lacking:
        raise UsageError(f"{path}: has no column {' or '.join(lacking)}; give a run folder")
    return rows


def _numbers(number: int, row: Mapping[str | None, Any]) -> Row:
    """The cells of a row by the columns' names. Raises ValueError for cells that are no numbers,
    too many or too few."""
    if None in row or None in row.values():  # as `csv.DictReader` marks these
        raise ValueError(f"row {number} must have as many cells as the header")
    numbers = {}
    for column, cell in row.items():
        try:
            numbers[str(column)] = math.nan if cell == "" else float(cell)
        except ValueError:
            raise ValueError(
                f"{column} in row {number} must be a number, got {shown(cell, 60)!r}"
            ) from None
    return numbers


def _why(error: Exception) -> object:
    """Why a file cannot be read."""
    if isinstance(error, UnicodeError):
        return NOT_UTF8
    return getattr(error, "strerror", None) or error


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
