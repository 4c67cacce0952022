"""The picture of the sweep: time and peak memory of the loss, against classes and image size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.promises import HEAD_PEERS, MEMORY_RESOLUTION_MIB

OPERATOR = "interpolate_cross_entropy"
# Name in the document, in the legend, colour, marker.
CURVES = (
    (HEAD_PEERS[OPERATOR], "F.interpolate + F.cross_entropy", "#c44e1c", "s"),
    ("fcn_ext", "fcn_ext", "#1f5fa8", "o"),
)
Row = dict[str, Any]
# Case names begin with it; what it is; its value in a row, as shapes are (scores, target).
AXES: tuple[tuple[str, str, Callable[[Row], int]], ...] = (
    ("classes-", "classes, at 512 x 512 pixels", lambda row: int(row["shapes"][0][1])),
    ("size-", "image side in pixels, square, 19 classes", lambda row: int(row["shapes"][1][1])),
)
FIGURES = (("median_ms", "forward + backward, ms"), ("peak_mib", "peak memory, MiB"))


def draw(document: dict[str, Any], path: Path) -> None:
    """Two by two log-log panels of a document that holds the rows of ``--rows sweep``.

    Raises ValueError where it holds none of an axis. Memory that was not measured leaves its
    panels empty, with a word.
    """
    figure, panels = plt.subplots(2, 2, figsize=(9.6, 7.2), sharex="col", layout="constrained")
    try:
        for column, (prefix, label, value) in enumerate(AXES):
            rows = [
                row
                for row in document["rows"]
                if row["operator"] == OPERATOR and row["case"].startswith(prefix)
            ]
            if not rows:
                raise ValueError(f"has no row {OPERATOR}/{prefix}*; measure --rows sweep")
            rows.sort(key=value)
            for axes, (key, unit) in zip(panels[:, column], FIGURES, strict=True):
                _panel(axes, rows, value, key)
                axes.set_ylabel(unit if column == 0 else "")
            panels[1, column].set_xlabel(label)
        panels[0, 0].legend(frameon=False, loc="upper left")
        environment, threads = document["environment"], document["environment"]["threads"]
        figure.suptitle(
            "Cross-entropy of scores upsampled by 8, with its gradient: one image, float32\n"
            f"{environment['device_name']}, {threads} thread{'s'[: threads != 1]}, "
            f"torch {environment['torch']}",
            fontsize="medium",
        )
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def _panel(axes: Axes, rows: list[Row], value: Callable[[Row], int], key: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    curves = []
    for name, label, colour, marker in CURVES:
        points = {
            value(row): max(entry[key], MEMORY_RESOLUTION_MIB if key == "peak_mib" else 0)
            for row in rows
            for entry in row["implementations"]
            if entry["name"] == name and entry.get(key) is not None
        }
        axes.plot(list(points), list(points.values()), color=colour, marker=marker, label=label)
        curves.append(points)
    slow, fast = curves
    if not slow and not fast:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    for x in slow.keys() & fast.keys():
        place = (x, (slow[x] * fast[x]) ** 0.5)
        ratio = slow[x] / fast[x]
        text = f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.1f}x"
        axes.annotate(text, place, ha="center", va="center", color="#555555", fontsize="small")
    axes.set_xticks([value(row) for row in rows])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.grid(which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
