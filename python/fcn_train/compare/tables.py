"""The tables of a comparison, as rows of text for the console and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcn_train.compare.records import Record, SetScores

FOUR = ("mean_iu", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iu")
HEADER = ("run", "step", "mean IU", "pixel acc.", "mean acc.", "f.w. IU", "best mean IU", "at step")

Rows = list[tuple[str, ...]]


def score_rows(records: Sequence[Record]) -> dict[str, tuple[tuple[str, ...], Rows]]:
    """For each set of labels ("" where a run has one alone) the header, and a row for each run
    that has it: the four scores at the end, and the best mean IU of its evaluations."""
    found: dict[str, tuple[tuple[str, ...], Rows]] = {}
    for record in records:
        for one in record.sets:
            label_set = one.classes.label_set if len(record.sets) > 1 else ""
            found.setdefault(label_set, (HEADER, []))[1].append(_score_row(record, one))
    return found


def _score_row(record: Record, one: SetScores) -> tuple[str, ...]:
    step = record.evaluations[-1]["step"] if record.evaluations else math.nan
    state = "" if record.finished else " (not finished)"
    return (
        record.name + state,
        _whole(step),
        *(number(one.last.get(name, math.nan)) for name in FOUR),
        number(one.best.get("mean_iu", math.nan)),
        _whole(one.best.get("step", math.nan)),
    )


def class_rows(records: Sequence[Record]) -> dict[str, Rows]:
    """For each set of labels a row for each class, with its IU in every run; by the names of the
    classes, "-" where a run has none of that name or is not finished."""
    by_set: dict[str, dict[str, dict[int, float]]] = {}
    for which, record in enumerate(records):
        for one in record.sets:
            label_set = one.classes.label_set if len(record.sets) > 1 else ""
            if one.class_iu is None:
                continue
            rows = by_set.setdefault(label_set, {})
            for name, iu in zip(one.classes.names, one.class_iu, strict=True):
                rows.setdefault(name, {})[which] = iu
    return {
        label_set: [
            (name, *(number(values.get(which, math.nan)) for which in range(len(records))))
            for name, values in rows.items()
        ]
        for label_set, rows in by_set.items()
    }


def number(value: float) -> str:
    """A score with four digits; "-" where it is undefined."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"
