"""The report of an evaluation: numbers as JSON and CSV, pictures, and a page that shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fcn_ext.metrics import Scores
from fcn_train import pictures
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


def write_report(
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    scores: Scores,
    matrix: np.ndarray,
    classes: Classes,
    rows: Sequence[pictures.Picture],
    history: History | None = None,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> None:
    """Write every file of a report into ``folder``, ``metrics.json`` last.

    ``matrix`` (C, C) int64 holds target by rows and prediction by columns; ``facts`` are scalars
    (split, step, ...) that go into ``metrics.json`` and onto the page.
    """
    make_folder(folder)
    remove_leftovers(folder)
    class_rows = _class_rows(scores, matrix, classes.names)
    write_csv(folder / "per_class.csv", tuple(class_rows[0]), [[*r.values()] for r in class_rows])
    header = ("target \\ prediction", *classes.names)
    counts = [[name, *row] for name, row in zip(classes.names, matrix.tolist(), strict=True)]
    write_csv(folder / "confusion_matrix.csv", header, counts)
    pictures.draw_class_bars(
        folder / "per_class.png", scores.class_iu, scores.class_accuracy, classes.names
    )
    pictures.draw_confusion(folder / "confusion_matrix.png", matrix, classes.names)
    pictures.draw_overlays(folder / "overlays.png", rows, classes.names, classes.palette)
    if history is not None:
        history.write(folder)
        pictures.draw_curves(folder / "curves.png", history.training, history.evaluations)
    values = {**facts, **{n: getattr(scores, n) for n in SCORES}, "classes": class_rows}
    values["num_pixels"] = int(scores.num_pixels)
    if environment:
        values["environment"] = dict(environment)
    page = _page(title, facts, scores, class_rows, classes, history, config, environment)
    write_text(folder / "report.html", page)
    write_text(folder / METRICS, to_json(values))


def to_json(values: Any) -> str:
    """JSON text, with null for NaN."""
    return json.dumps(_plain(values), indent=2, allow_nan=False) + "\n"


def summary(scores: Scores) -> str:
    """One line of the four metrics of the paper."""
    return (
        f"mean IU {scores.mean_iu:.4f}, pixel accuracy {scores.pixel_accuracy:.4f}, "
        f"mean accuracy {scores.mean_accuracy:.4f}, "
        f"frequency-weighted IU {scores.frequency_weighted_iu:.4f}"
    )


def _class_rows(scores: Scores, matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "class": name,
            "iu": float(scores.class_iu[i]),
            "accuracy": float(scores.class_accuracy[i]),
            "target_pixels": int(matrix[i].sum()),
            "predicted_pixels": int(matrix[:, i].sum()),
        }
        for i, name in enumerate(names)
    ]


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
    scores: Scores,
    class_rows: Sequence[Mapping[str, Any]],
    classes: Classes,
    history: History | None,
    config: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
) -> str:
    numbers = [(LABELS[name], f"{getattr(scores, name):.4f}") for name in SCORES]
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        _table([*numbers, *((key.replace("_", " "), value) for key, value in facts.items())]),
    ]
    if history is not None:
        parts.append('<h2>Curves</h2><img src="curves.png" alt="loss and scores over steps">')
    parts += [
        "<h2>Predictions</h2>",
        '<img src="overlays.png" alt="image, truth, prediction and overlay">',
        '<h2>Classes</h2><img src="per_class.png" alt="IU of each class">',
        _class_table(class_rows, classes),
        '<h2>Confusion matrix</h2><img src="confusion_matrix.png" alt="confusion matrix">',
    ]
    if environment:
        parts += ["<h2>Environment</h2>", _table(environment.items())]
    if config:
        text = json.dumps(config, indent=2)
        parts += ["<h2>Configuration</h2>", f"<pre>{escape(text)}</pre>"]
    return "\n".join([*parts, "</body></html>", ""])


def _table(rows: Any) -> str:
    cells = (
        f"<tr><td>{escape(shown(str(key)))}</td><td>{escape(shown(str(value)))}</td></tr>"
        for key, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _text(value: Any) -> str:
    return escape(shown(str(value)))


def _class_table(rows: Sequence[Mapping[str, Any]], classes: Classes) -> str:
    lines = ["<table><tr><th>class</th><th>IU</th><th>accuracy</th><th>target pixels</th></tr>"]
    for row, color in zip(rows, classes.palette, strict=False):
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
