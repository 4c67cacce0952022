"""The page of a comparison: one file of HTML that holds its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from fcn_train.classes import Classes
from fcn_train.compare.images import Difference
from fcn_train.compare.records import Record, differing_options
from fcn_train.compare.tables import class_rows, number, score_rows
from fcn_train.page import data_uri, jpeg, page, png, swatch, table, text
from fcn_train.pictures import LONGEST, draw_figure, label_axes, new_figure
from fcn_train.shown import shown

WIDEST = 320  # pixels of an image on the page
COLORS = ("#2f6db3", "#d9772b", "#3a9a5b", "#b3402f", "#7a5ab5", "#8a8f98", "#c2a41c", "#2fa3a8")
STYLE = """
body { max-width: 90rem; } td.picture { vertical-align: top; padding-right: .5rem; }
td.picture img { display: block; min-width: 10rem; image-rendering: pixelated; }
"""


def comparison_page(
    records: Sequence[Record],
    said: Sequence[str],
    groups: Sequence[tuple[Classes, Sequence[Difference]]],
    shown_runs: Sequence[str],
    weights: str = "last",
) -> str:
    """All of a comparison.

    Args:
        records: of the runs.
        said: lines on what cannot be compared.
        groups: for each set of labels its classes and the images to show.
        shown_runs: names of the runs whose predictions those are.
        weights: of each run that made them, last or best.
    """
    names = [record.name for record in records]
    parts = [f"<p>{text(line)}</p>" for line in said]
    for label_set, (header, rows) in score_rows(records).items():
        parts += [f"<h2>Scores{_of(label_set)}</h2>", table(rows, header, numbers=True)]
    parts += ["<h2>Options that differ</h2>", _options(records)]
    parts += [
        "<h2>Curves</h2>",
        f'<img src="{_curves(records)}" alt="loss and mean IU over steps">',
    ]
    for label_set, rows in class_rows(records).items():
        parts += [f"<h2>IU of each class{_of(label_set)}</h2>"]
        parts += [table(rows, ("class", *names), numbers=True)]
    for classes, differences in groups:
        parts += [f"<h2>Images that differ most{_of(classes.label_set)}</h2>"]
        parts += [f"<p>Predictions of the {weights} weights of each run.</p>"]
        parts += [_pictures(classes, differences, shown_runs)]
    return page(" and ".join(names), parts, STYLE)


def _of(label_set: str) -> str:
    return f": {text(label_set)}" if label_set else ""


def _options(records: Sequence[Record]) -> str:
    differing = differing_options(records)
    if not differing:
        return "<p>none</p>"
    rows = [(name, *values) for name, values in differing]
    return table(rows, ("option", *(record.name for record in records)))


def _curves(records: Sequence[Record]) -> str:
    """Loss, and mean IU of the first set of labels, of all runs."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    for index, record in enumerate(records):
        color, name = COLORS[index % len(COLORS)], shown(record.name, LONGEST)
        style = ("-", "--", ":")[index // len(COLORS) % 3]
        rows = np.array(record.training, dtype=np.float64).reshape(-1, 2)
        left.plot(rows[:, 0], rows[:, 1], color=color, linestyle=style, linewidth=1.4, label=name)
        points = [(row["step"], row["mean_iu"]) for row in record.evaluations]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        right.plot(steps, values, color=color, linestyle=style, marker="o", markersize=4)
    losses = [loss for record in records for _, loss in record.training]
    if losses and min(losses) > 0 and max(losses) > 20 * min(losses):
        left.set_yscale("log")
    label_axes(left, "Training loss", "step", "loss")
    label_axes(right, "Mean IU on the validation split", "step", "")
    right.set_ylim(0, 1.05)
    if losses:  # the same steps in both, also where runs were scored only once
        right.set_xlim(left.get_xlim())
    legend = figure.legend(loc="outside lower center", ncol=3, fontsize=9, frameon=False)
    for line in legend.get_texts():
        line.set_parse_math(False)
    content = io.BytesIO()
    draw_figure(figure, content)
    return data_uri("png", content.getvalue())


def _pictures(classes: Classes, differences: Sequence[Difference], names: Sequence[str]) -> str:
    """A row for each image: itself, its label, and what each run makes of it."""
    header = "".join(f"<th>{text(name)}</th>" for name in ("image", "truth", *names))
    rows = []
    for one in differences:
        where = f"{text(one.name)}<br>{100 * one.differing:.1f} % of the pixels differ"
        cells = [
            _cell(jpeg(one.image, WIDEST), where, "image"),
            _cell(png(one.target, WIDEST, classes.palette), "", "truth"),
        ]
        cells += [
            _cell(png(prediction, WIDEST, classes.palette), f"mean IU {number(iu)}", name)
            for prediction, iu, name in zip(one.predictions, one.ious, names, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{header}</tr>{''.join(rows)}</table>{_legend(classes, differences)}"


def _cell(address: str, below: str, alt: str) -> str:
    return f'<td class="picture"><img src="{address}" alt="{text(alt)}">{below}</td>'


def _legend(classes: Classes, differences: Sequence[Difference]) -> str:
    used = {
        int(index)
        for one in differences
        for labels in (one.target, *one.predictions)
        for index in np.unique(labels)
    }
    marks = []
    for index in sorted(used):
        name = classes.names[index] if index < len(classes.names) else "void"
        marks.append(f"<span>{swatch(classes.palette[index])}{text(name)}</span>")
    return f"<p>{' &emsp; '.join(marks)}</p>"
