"""The report of an evaluation: numbers as JSON and CSV, pictures, and a page that shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
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
from fcn_train.run_folder import METRICS
from fcn_train.shown import shown

LABELS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU (classes that occur in target or prediction)",
    "mean_iu_present": "mean IU of the classes present in the target",
    "frequency_weighted_iu": "frequency-weighted IU",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left;
       border-bottom: 1px solid #e3e3e3; } td.number { text-align: right;
       font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } code, pre { font-size: 13px; } pre { background: #f6f6f4;
       padding: .8rem; overflow-x: auto; } .swatch { display: inline-block; width: .9em;
       height: .9em; margin-right: .5em; border: 1px solid #888; vertical-align: -.1em; }
"""


@dataclass(frozen=True, eq=False)
class Result:
    """What an evaluation found of one set of labels.

    Attributes:
        classes: those of the set.
        counts: (C, C) int64, target by rows and prediction by columns.
        rows: pictures of some examples.
        reliability: how often the network is right, by how sure it is, where that was asked for.
    """

    classes: Classes
    counts: np.ndarray
    rows: Sequence[pictures.Picture]
    reliability: Reliability | None = None

    @cached_property
    def scores(self) -> Scores:
        return scores_from_matrix(torch.from_numpy(self.counts))

    def values(self) -> dict[str, Any]:
        """As ``metrics.json`` has them."""
        scores = {name: getattr(self.scores, name) for name in SCORES}
        sure = {} if self.reliability is None else calibration.values(self.reliability)
        pixels = int(self.scores.num_pixels)
        return {**scores, **sure, "classes": self.class_rows, "num_pixels": pixels}

    @cached_property
    def class_rows(self) -> list[dict[str, Any]]:
        """A row of the table of classes each."""
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
    """Write every file of a report into ``folder``, ``metrics.json`` last.

    ``results`` are of each set of labels. Where there are several, the files of each have its name
    at their end (``per_class-geometric.csv``), and ``metrics.json`` has their scores under
    ``label_sets``. ``facts`` are scalars (split, step, ...) that go into ``metrics.json`` and onto
    the page.
    """
    make_folder(folder)
    remove_leftovers(folder)
    ends = [f"-{result.classes.label_set}" if len(results) > 1 else "" for result in results]
    for result, end in zip(results, ends, strict=True):
        _write_result(folder, result, end)
    if history is not None:
        history.write(folder)
        pictures.draw_curves(
            folder / "curves.png", history.training, history.evaluations, history.label_sets
        )
    values = dict(facts)
    if len(results) == 1:
        values |= results[0].values()
    else:
        values["label_sets"] = {result.classes.label_set: result.values() for result in results}
    if environment:
        values["environment"] = dict(environment)
    page = _page(title, facts, dict(zip(ends, results, strict=True)), history, config, environment)
    write_text(folder / "report.html", page)
    write_text(folder / METRICS, to_json(values))


def _write_result(folder: Path, result: Result, end: str) -> None:
    """The files of one set of labels, whose names have ``end`` at their end."""
    rows, counts, scores = result.class_rows, result.counts, result.scores
    names, palette = result.classes.names, result.classes.palette
    write_csv(folder / f"per_class{end}.csv", tuple(rows[0]), [[*row.values()] for row in rows])
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
    """One line of the four metrics of the paper; of each set of labels, where they are by name."""
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


def _page(
    title: str,
    facts: Mapping[str, Any],
    results: Mapping[str, Result],
    history: History | None,
    config: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
) -> str:
    several = len(results) > 1
    rows = [(key.replace("_", " "), value) for key, value in facts.items()]
    if not several:
        rows = [*_numbers(results[""]), *rows]
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        _table(rows),
    ]
    if history is not None:
        parts.append('<h2>Curves</h2><img src="curves.png" alt="loss and scores over steps">')
    for end, result in results.items():
        of_set = f": {_text(result.classes.label_set)}" if several else ""
        if several:
            parts += [f"<h2>Scores{of_set}</h2>", _table(_numbers(result))]
        parts += [
            f"<h2>Predictions{of_set}</h2>",
            f'<img src="overlays{end}.png" alt="image, truth, prediction and overlay">',
            f'<h2>Classes{of_set}</h2><img src="per_class{end}.png" alt="IU of each class">',
            _class_table(result),
            f"<h2>Confusion matrix{of_set}</h2>"
            f'<img src="confusion_matrix{end}.png" alt="confusion matrix">',
        ]
        if result.reliability is not None:
            parts.append(calibration.section(end, of_set))
    if environment:
        parts += ["<h2>Environment</h2>", _table(environment.items())]
    if config:
        text = json.dumps(config, indent=2)
        parts += ["<h2>Configuration</h2>", f"<pre>{escape(text)}</pre>"]
    return "\n".join([*parts, "</body></html>", ""])


def _numbers(result: Result) -> list[tuple[str, Any]]:
    return [(LABELS[name], f"{getattr(result.scores, name):.4f}") for name in SCORES]


def _table(rows: Any) -> str:
    cells = (
        f"<tr><td>{escape(shown(str(key)))}</td><td>{escape(shown(str(value)))}</td></tr>"
        for key, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _text(value: Any) -> str:
    return escape(shown(str(value)))


def _class_table(result: Result) -> str:
    lines = ["<table><tr><th>class</th><th>IU</th><th>accuracy</th><th>target pixels</th></tr>"]
    for row, color in zip(result.class_rows, result.classes.palette, strict=False):
        swatch = f'<span class="swatch" style="background:rgb{tuple(color.tolist())}"></span>'
        iu, accuracy = (
            "absent" if math.isnan(row[key]) else f"{row[key]:.4f}" for key in ("iu", "accuracy")
        )
        lines.append(
            f'<tr><td>{swatch}{_text(row["class"])}</td><td class="number">{iu}</td>'
            f'<td class="number">{accuracy}</td>'
            f'<td class="number">{row["target_pixels"]:,}</td></tr>'
        )
    return "".join([*lines, "</table>"])
