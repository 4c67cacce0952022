"""The pictures of studies: lines over a number, with the paper's values if it has them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_train.files import make_folder
from fcn_train.pictures import LONGEST, label_axes, new_figure, save_figure
from fcn_train.shown import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = Sequence[tuple[float, float]]  # (x, y)
PAPER = "paper"


def draw_lines(
    path: Path,
    title: str,
    panels: Mapping[tuple[str, str], Mapping[str, Line]],
    *,
    log2: bool = False,
) -> None:
    """Panels, two in a row, each of named lines.

    Args:
        path: PNG file.
        panels: by the names of their axes, (x, y). A line called "paper" is dashed.
        log2: factors of two are as far from each other as any other.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5.8 * columns, 4.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, ((x, y), lines) in zip(grid, panels.items(), strict=False):
        _draw(axes, lines)
        if log2:
            axes.set_xscale("log", base=2)
        label_axes(axes, _wrapped(title, 1) if len(panels) == 1 else "", x, y)
        if lines:
            axes.legend(fontsize=8, frameon=False)
    if len(panels) > 1:
        figure.suptitle(_wrapped(title, columns), fontsize=11)
    make_folder(path.parent)
    save_figure(figure, path)


def draw_points(
    path: Path, title: str, names: tuple[str, str], points: Mapping[str, tuple[float, float]]
) -> None:
    """Named points in a plane, whose axes have these ``names``."""
    figure = new_figure(7, 4.4)
    axes = figure.subplots()
    for name, (x, y) in points.items():
        axes.plot([x], [y], "o", markersize=7, label=shown(name, LONGEST))
    label_axes(axes, _wrapped(title, 1), *names)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    make_folder(path.parent)
    save_figure(figure, path)


def draw_bars(path: Path, title: str, x: str, bars: Mapping[str, float]) -> None:
    """Named bars, from left to right, with their lengths."""
    figure = new_figure(7, 1.6 + 0.4 * len(bars))
    axes = figure.subplots()
    names = [shown(name, LONGEST) for name in bars]
    axes.barh(names, list(bars.values()), height=0.6)
    for place, value in enumerate(bars.values()):
        axes.text(value, place, f" {value:.3g}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    label_axes(axes, _wrapped(title, 1), x, "")
    make_folder(path.parent)
    save_figure(figure, path)


def _wrapped(title: str, panels: int) -> str:
    return textwrap.fill(shown(title), 62 * panels)


def _draw(axes: Axes, lines: Mapping[str, Line]) -> None:
    for name, line in lines.items():
        xs, ys = [x for x, _ in line], [y for _, y in line]
        style = "--" if name == PAPER else "-"
        axes.plot(
            xs, ys, style, marker="o", markersize=3, linewidth=1.4, label=shown(name, LONGEST)
        )
