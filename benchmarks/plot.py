"""Plots of the loss: time and peak memory, by case or against classes and image size."""

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
# Name in the document, name in the legend, color, marker.
CURVES = (
    (HEAD_PEERS[OPERATOR], "F.interpolate + F.cross_entropy", "#c44e1c", "s"),
    ("fcn_ext", "fcn_ext", "#1f5fa8", "o"),
)
Row = dict[str, Any]
# The prefix of case names, the axis label, the value in a row, whose shapes are (scores, target).
AXES: tuple[tuple[str, str, Callable[[Row], int]], ...] = (
    ("classes-", "classes, at 512 x 512 pixels", lambda row: int(row["shapes"][0][1])),
    ("size-", "image side in pixels, square, 19 classes", lambda row: int(row["shapes"][1][1])),
)
FIGURES = (("median_ms", "forward + backward, ms"), ("peak_mib", "peak memory, MiB"))
# Case names of the heads' rows, and their labels in the plot, from the top.
CASES = (
    ("voc-s8", "VOC, stride 8\n21 classes, N = 2"),
    ("voc-s32", "VOC, stride 32\n21 classes"),
    ("cityscapes-s8", "Cityscapes, stride 8\n19 classes"),
    ("cityscapes-s4", "Cityscapes, stride 4\n19 classes"),
    ("ade20k-s8", "ADE20K, stride 8\n150 classes"),
    ("ade20k-s4", "ADE20K, stride 4\n150 classes"),
    ("ade-full-s4", "ADE20K, stride 4\n847 classes"),
)


def draw(document: dict[str, Any], path: Path) -> None:
    """Plots a document: its sweep, or its cases if it has no sweep.

    Raises ValueError if it holds the rows of neither. Panels of memory that was not measured stay
    empty, with a note.
    """
    rows = [row for row in document["rows"] if row["operator"] == OPERATOR]
    if any(row["name"] == f"{OPERATOR}/{CASES[0][0]}/float32" for row in rows):
        draw_cases(document, path)
    else:
        draw_sweep(document, path)


def draw_cases(document: dict[str, Any], path: Path) -> None:
    """One line per case, from this project's figure to that of plain PyTorch, on log axes."""
    names = {f"{OPERATOR}/{case}/float32": label for case, label in CASES}
    rows = {row["name"]: row for row in document["rows"] if row["name"] in names}
    labels = [label for name, label in names.items() if name in rows]
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.2), sharey=True, layout="constrained")
    try:
        for axes, (key, unit) in zip(panels, FIGURES, strict=True):
            pairs = [_figures(rows[name], key) for name in names if name in rows]
            _dumbbells(axes, pairs, key)
            axes.set_xlabel(unit)
        panels[0].set_yticks(range(len(labels)), labels, fontsize="small")
        panels[0].invert_yaxis()
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            frameon=False,
            loc="outside lower center",
            ncols=2,
        )
        figure.suptitle(
            f"Upsampling and cross-entropy, with the gradient\n{_where(document)}",
            fontsize="medium",
        )
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def _figures(row: Row, key: str) -> list[float | None]:
    """The figures of the peer and of this project, in the order of CURVES."""
    found = {entry["name"]: entry.get(key) for entry in row["implementations"]}
    return [found.get(name) for name, *_ in CURVES]


def _dumbbells(axes: Axes, pairs: list[list[float | None]], key: str) -> None:
    axes.set_xscale("log")
    least = MEMORY_RESOLUTION_MIB if key == "peak_mib" else 0.0
    for place, (slow, fast) in enumerate(pairs):
        if slow is None or fast is None:
            continue
        ends = max(fast, least), slow
        axes.plot(ends, (place, place), color="#cccccc", linewidth=3, zorder=1)
        for end, (_, label, color, marker) in zip(reversed(ends), CURVES, strict=True):
            axes.plot(end, place, marker, color=color, label=label if place == 0 else None)
        text = f"{'>' * (fast < least)}{slow / ends[0]:.0f}x"
        middle = (ends[0] * ends[1]) ** 0.5
        axes.annotate(
            text,
            (middle, place),
            ha="center",
            va="bottom",
            xytext=(0, 1),
            textcoords="offset points",
            color="#555555",
            fontsize="small",
        )
    if not axes.lines:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    axes.margins(y=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.grid(which="major", axis="x", color="#dddddd", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _where(document: dict[str, Any]) -> str:
    environment, threads = document["environment"], document["environment"]["threads"]
    return (
        f"{environment['device_name']}, {threads} thread{'s'[: threads != 1]}, "
        f"torch {environment['torch']}, float32"
    )


def draw_sweep(document: dict[str, Any], path: Path) -> None:
    """Two by two log-log panels of a document that holds the rows of ``--rows sweep``."""
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
        figure.suptitle(
            "Cross-entropy of scores upsampled by 8, with its gradient: one image\n"
            f"{_where(document)}",
            fontsize="medium",
        )
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def _panel(axes: Axes, rows: list[Row], value: Callable[[Row], int], key: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    curves = []
    for name, label, color, marker in CURVES:
        points = {
            value(row): max(entry[key], MEMORY_RESOLUTION_MIB if key == "peak_mib" else 0)
            for row in rows
            for entry in row["implementations"]
            if entry["name"] == name and entry.get(key) is not None
        }
        axes.plot(list(points), list(points.values()), color=color, marker=marker, label=label)
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
