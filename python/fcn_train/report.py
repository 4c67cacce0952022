"""The report of an evaluation: numbers as JSON and CSV, pictures, and a page that shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcn_ext.calibration import Reliability
from fcn_ext.metrics import Scores, scores_from_matrix
from fcn_train import calibration, pictures
from fcn_train.classes import Classes
from fcn_train.files import make_folder, remove_leftovers, write_text
from fcn_train.history import SCORES, History, write_csv
from fcn_train.report_files import remove_former
from fcn_train.report_page import report_page
from fcn_train.run_folder import METRICS


@dataclass(frozen=True, eq=False)
class Result:
    """The results of an evaluation for one set of labels.

    Attributes:
        classes: those of the set.
        counts: (C, C) int64, target by rows and prediction by columns.
        rows: pictures of some examples.
        worst, best: pictures of those with the lowest and the highest mean IU, the extreme first.
        per_image: name and mean IU of each image.
        reliability: how often the network is right, by its confidence, if that was asked for.
    """

    classes: Classes
    counts: np.ndarray
    rows: Sequence[pictures.Picture]
    worst: Sequence[pictures.Picture] = ()
    best: Sequence[pictures.Picture] = ()
    per_image: Sequence[tuple[str, float]] = ()
    reliability: Reliability | None = None

    @cached_property
    def scores(self) -> Scores:
        return scores_from_matrix(torch.from_numpy(self.counts))

    def values(self) -> dict[str, Any]:
        """The scores, as in ``metrics.json``."""
        scores = {name: getattr(self.scores, name) for name in SCORES}
        sure = {} if self.reliability is None else calibration.values(self.reliability)
        pixels = int(self.scores.num_pixels)
        return {**scores, **sure, "classes": self.class_rows, "num_pixels": pixels}

    @cached_property
    def class_rows(self) -> list[dict[str, Any]]:
        """The table of classes, a row for each."""
        return [
            {
                "class": name,
                "iu": float(self.scores.class_iu[i]),
                "accuracy": float(self.scores.class_accuracy[i]),
                "target_pixels": int(self.counts[i].sum()),
                "predicted_pixels": int(self.counts[:, i].sum()),
            }
            for i, name in enumerate(self.classes.names)
        ]

    def taken_for(self, index: int, most: int = 3) -> list[tuple[int, int]]:
        """The classes that pixels of class ``index`` are most often taken for, and the number of
        pixels, largest first; classes without any are left out."""
        wrong = self.counts[index].copy()
        wrong[index] = 0
        order = np.argsort(-wrong, kind="stable")[:most]
        return [(int(other), int(wrong[other])) for other in order if wrong[other]]


def write_report(
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    results: Sequence[Result],
    history: History | None = None,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> None:
    """Write every file of a report into ``folder``, ``metrics.json`` last. Files of an earlier
    report there that this one does not have are removed.

    ``results`` holds those of each set of labels. If there are several, the files of each end in
    its name (``per_class-geometric.csv``), and ``metrics.json`` has their scores under
    ``label_sets``. ``facts`` are scalars (split, step, ...) that go into ``metrics.json`` and onto
    the page.
    """
    make_folder(folder)
    remove_leftovers(folder)
    values = metrics_of(facts, results)
    remove_former(folder, values)
    ends = [f"-{result.classes.label_set}" if len(results) > 1 else "" for result in results]
    for result, end in zip(results, ends, strict=True):
        _write_result(folder, result, end)
    if history is not None:
        history.write(folder)
        pictures.draw_curves(
            folder / "curves.png", history.training, history.evaluations, history.label_sets
        )
    if environment:
        values["environment"] = dict(environment)
    by_end = dict(zip(ends, results, strict=True))
    page = report_page(folder, title, facts, by_end, history is not None, config, environment)
    write_text(folder / "report.html", page)
    write_text(folder / METRICS, to_json(values))


def metrics_of(facts: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """The entries of ``metrics.json`` for ``results``."""
    if len(results) == 1:
        return {**facts, **results[0].values()}
    sets = {result.classes.label_set: result.values() for result in results}
    return {**facts, "label_sets": sets}


def _write_result(folder: Path, result: Result, end: str) -> None:
    """Write the files of one set of labels, whose names end in ``end``."""
    rows, counts, scores = result.class_rows, result.counts, result.scores
    names, palette = result.classes.names, result.classes.palette
    write_csv(folder / f"per_class{end}.csv", tuple(rows[0]), [[*row.values()] for row in rows])
    if result.per_image:
        write_csv(folder / f"per_image{end}.csv", ("image", "mean_iu"), result.per_image)
    header = ("target \\ prediction", *names)
    table = [[name, *row] for name, row in zip(names, counts.tolist(), strict=True)]
    write_csv(folder / f"confusion_matrix{end}.csv", header, table)
    pictures.draw_class_bars(
        folder / f"per_class{end}.png", scores.class_iu, scores.class_accuracy, names
    )
    pictures.draw_confusion(folder / f"confusion_matrix{end}.png", counts, names)
    pictures.draw_overlays(folder / f"overlays{end}.png", result.rows, names, palette)
    if result.reliability is not None:
        calibration.write(folder, end, result.reliability)


def to_json(values: Any) -> str:
    """JSON text, with null for NaN."""
    return json.dumps(_plain(values), indent=2, allow_nan=False) + "\n"


def summary(scores: Scores | Mapping[str, Scores]) -> str:
    """One line with the four metrics of the paper, those of each set of labels if ``scores`` are by
    name."""
    if isinstance(scores, Mapping):
        return "; ".join(f"{name}: {summary(one)}" for name, one in scores.items())
    return (
        f"mean IU {scores.mean_iu:.4f}, pixel accuracy {scores.pixel_accuracy:.4f}, "
        f"mean accuracy {scores.mean_accuracy:.4f}, "
        f"frequency-weighted IU {scores.frequency_weighted_iu:.4f}"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
