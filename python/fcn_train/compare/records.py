"""What can be read from a run's folder without its network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_train.classes import Classes, load_classes
from fcn_train.config import flat, load_run_config, to_dict
from fcn_train.errors import UsageError
from fcn_train.history import SCORES
from fcn_train.options import TrainOptions
from fcn_train.real_paths import real_path
from fcn_train.run_folder import RunFolder
from fcn_train.run_scores import (
    Row,
    best_row,
    read_evaluations,
    read_json,
    read_training,
    scores_by_set,
)
from fcn_train.shown import shown
from fcn_train.words import counted


@dataclass(frozen=True, eq=False)
class SetScores:
    """The scores of a run on one set of labels.

    Attributes:
        classes: those of the set.
        last: the scores of ``history.SCORES`` at the end, or of the newest evaluation of a run
            that is not finished; empty before the first.
        best: those of the evaluation with the greatest mean IU, and its ``step``.
        class_iu: IU of each class at the end, NaN where undefined; None of an unfinished run.
    """

    classes: Classes
    last: Mapping[str, float]
    best: Mapping[str, float]
    class_iu: Sequence[float] | None


@dataclass(frozen=True, eq=False)
class Record:
    """What a run's folder says of it.

    Attributes:
        path, name: its folder, and what it is called beside the others.
        options: of the training.
        sets: scores of each set of labels.
        training: (step, loss) of the logged steps.
        evaluations: step and scores of each evaluation, on the first set of labels.
        images: fingerprint of the split it is scored on; "" where it is not known.
        finished: whether all its steps were taken.
    """

    path: Path
    name: str
    options: TrainOptions
    sets: tuple[SetScores, ...]
    training: list[tuple[float, float]]
    evaluations: list[dict[str, float]]
    images: str
    finished: bool

    @property
    def class_names(self) -> list[tuple[str, ...]]:
        """The classes of each set of labels."""
        return [one.classes.names for one in self.sets]


def read_records(paths: Sequence[Path]) -> list[Record]:
    """The records of runs, each with a name of its own.

    Raises:
        UsageError: there are fewer than two, one is given twice, or is no run, or cannot be read.
    """
    if len(paths) < 2:
        raise UsageError(f"give two or more run folders to compare, got {len(paths)}")
    known: dict[Path, Path] = {}
    for path in paths:
        if known.setdefault(real_path(path), path) is not path:
            raise UsageError(f"{path}: is given twice; give each run once")
    names = [real_path(path).name for path in paths]
    unique = len(set(names)) == len(names)
    return [
        _read(path, name if unique else str(path)) for path, name in zip(paths, names, strict=True)
    ]


def differing_options(records: Sequence[Record]) -> list[tuple[str, list[Any]]]:
    """Options that are not the same in all runs, with the value of each run."""
    values = [flat(to_dict(record.options)) for record in records]
    return [
        (name, [one[name] for one in values])
        for name in values[0]
        if any(one[name] != values[0][name] for one in values[1:])
    ]


def _read(path: Path, name: str) -> Record:
    folder = RunFolder(path)
    options, sets = load_run_config(path), load_classes(folder.classes)
    metrics = read_json(folder.metrics)
    evaluations = read_evaluations(path, [classes.label_set for classes in sets])
    training = [(row["step"], row["loss"]) for row in read_training(path)]
    try:
        by_set = scores_by_set(metrics)
        scores = tuple(
            _scores(classes, by_set.get(classes.label_set), rows)
            for classes, rows in zip(sets, evaluations, strict=True)
        )
        images = str(read_json(folder.splits).get("val", {}).get("fingerprint", ""))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{folder.metrics}: is not what fcn train writes ({_why(error)})"
        ) from None
    return Record(path, name, options, scores, training, evaluations[0], images, bool(metrics))


def _scores(classes: Classes, metrics: Mapping[str, Any] | None, rows: Sequence[Row]) -> SetScores:
    number = best_row(rows)
    best: Mapping[str, float] = {} if number is None else rows[number]
    last: Mapping[str, float] = rows[-1] if rows else {}
    class_iu = None
    if metrics is not None:
        last = {name: _number(metrics[name]) for name in SCORES}
        class_iu = [_number(row["iu"]) for row in metrics["classes"]]
        if len(class_iu) != len(classes.names):
            raise ValueError(
                f"must score {counted(len(classes.names), 'class')}, got {len(class_iu)}"
            )
    return SetScores(classes, last, best, class_iu)


def _number(value: float | None) -> float:
    if value is not None and not isinstance(value, (int, float)):
        raise ValueError(f"scores must be numbers, got {shown(repr(value), 60)}")
    return math.nan if value is None else float(value)


def _why(error: Exception) -> object:
    """What is wrong with the content of a file, from the error of reading it."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return error if isinstance(error, ValueError) else "its parts are of other types"
