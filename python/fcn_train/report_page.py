"""The page of a report: one HTML file that includes its pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_train import pixel_pictures
from fcn_train.history import SCORES
from fcn_train.page import data_uri, page, swatch, table, text

if TYPE_CHECKING:
    from fcn_train.report import Result

LABELS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU (classes that occur in target or prediction)",
    "mean_iu_present": "mean IU of the classes present in the target",
    "frequency_weighted_iu": "frequency-weighted IU",
}
CONFUSIONS = 10  # pairs of classes listed


def report_page(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    results: Mapping[str, Result],
    has_curves: bool,
    config: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
) -> str:
    """The page of ``results``, whose keys are the ends of their files' names in ``folder``; the
    pictures that matplotlib drew are read from there."""
    several = len(results) > 1
    rows = [(key.replace("_", " "), value) for key, value in facts.items()]
    if not several:
        rows = [*_numbers(results[""]), *rows]
    parts = [table(rows)]
    if has_curves:
        parts += ["<h2>Curves</h2>", _drawn(folder / "curves.png", "loss and scores over steps")]
    for end, result in results.items():
        of_set = f": {text(result.classes.label_set)}" if several else ""
        if several:
            parts += [f"<h2>Scores{of_set}</h2>", table(_numbers(result))]
        parts += _pictures(result, of_set)
        parts += [f"<h2>Classes{of_set}</h2>"]
        parts += [_drawn(folder / f"per_class{end}.png", "IU of each class"), _classes(result)]
        parts += [f"<h2>Confusions{of_set}</h2>", _confusions(result)]
        parts += [_drawn(folder / f"confusion_matrix{end}.png", "confusion matrix")]
        if result.reliability is not None:
            parts += [f"<h2>Calibration{of_set}</h2>"]
            alt = "accuracy against the winner's probability"
            parts += [_drawn(folder / f"calibration{end}.png", alt)]
    if environment:
        parts += ["<h2>Environment</h2>", table(environment.items())]
    if config:
        parts += ["<h2>Configuration</h2>", f"<pre>{escape(json.dumps(config, indent=2))}</pre>"]
    parts += [f"<script>{pixel_pictures.SCRIPT}</script>"]
    return page(title, parts, pixel_pictures.STYLE)


def _drawn(path: Path, alt: str) -> str:
    return f'<img src="{data_uri("png", path.read_bytes())}" alt="{alt}">'


def _numbers(result: Result) -> list[tuple[str, Any]]:
    return [(LABELS[name], f"{getattr(result.scores, name):.4f}") for name in SCORES]


def _pictures(result: Result, of_set: str) -> Iterator[str]:
    yield f"<h2>Predictions{of_set}</h2>"
    yield "<p>Image, truth, prediction, overlay; point at a pixel to read its classes.</p>"
    yield pixel_pictures.figures(result.rows, result.classes)
    for title, rows in (("Worst", result.worst), ("Best", result.best)):
        if rows:
            yield f"<h2>{title} images by mean IU{of_set}</h2>"
            yield pixel_pictures.figures(rows, result.classes)


def _classes(result: Result) -> str:
    head = ("class", "IU", "accuracy", "target pixels", "most often taken for")
    lines = [f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    for index, row in enumerate(result.class_rows):
        mark = swatch(result.classes.palette[index])
        iu, accuracy = (
            "absent" if math.isnan(row[key]) else f"{row[key]:.4f}" for key in ("iu", "accuracy")
        )
        others = ", ".join(
            f"{text(result.classes.names[other])} {_share(pixels, row['target_pixels'])}"
            for other, pixels in result.taken_for(index)
        )
        lines.append(
            f'<tr><td>{mark}{text(row["class"])}</td><td class="number">{iu}</td>'
            f'<td class="number">{accuracy}</td>'
            f'<td class="number">{row["target_pixels"]:,}</td><td>{others}</td></tr>'
        )
    return "".join([*lines, "</table>"])


def _confusions(result: Result) -> str:
    """The most frequent confusions: class, the class that it is taken for, and the shares."""
    names, counts = result.classes.names, result.counts
    errors = int(counts.sum() - counts.trace())
    pairs = [
        (pixels, index, other)
        for index in range(len(names))
        for other, pixels in result.taken_for(index, CONFUSIONS)
    ]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    rows = [
        (
            f"{names[index]} \u2192 {names[other]}",
            f"{pixels:,}",
            _share(pixels, int(counts[index].sum())),
            _share(pixels, errors),
        )
        for pixels, index, other in pairs[:CONFUSIONS]
    ]
    if not rows:
        return "<p>No pixel is wrong.</p>"
    header = ("class \u2192 taken for", "pixels", "of the class", "of all errors")
    return table(rows, header, numbers=True)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
