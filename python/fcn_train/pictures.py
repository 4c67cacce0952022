"""The pictures of a report, drawn by matplotlib without a display.

Each function writes one PNG. Matplotlib is imported when the first is called.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from fcn_train.data import IGNORE_INDEX, colorize, overlay
from fcn_train.files import atomic_path
from fcn_train.shown import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

if importlib.util.find_spec("matplotlib") is None:  # told now, not at the end of a training
    raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

BLUE, ORANGE, GRAY = "#2f6db3", "#d9772b", "#8a8f98"
LINES = ("-", "--", ":", "-.")  # for the label sets
DPI = 110
LONGEST = 40  # the most characters of a name
LEGEND_COLUMNS = 5


class Picture(NamedTuple):
    """One row of the overlays: image (H, W, 3), target and prediction (H, W), all uint8; if known,
    the probability of the prediction (H, W) and the mean IU of the image."""

    name: str
    image: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray | None = None
    iu: float | None = None


def draw_curves(
    path: Path,
    training: Sequence[Sequence[float]],
    evaluations: Sequence[Sequence[float]],
    label_sets: Sequence[str] = ("",),
) -> None:
    """Loss and scores over steps.

    ``training`` rows: step, epoch, lr, loss. ``evaluations`` rows: step, epoch, and for each of
    the ``label_sets`` pixel accuracy, mean accuracy, mean IU, mean IU of present classes,
    frequency-weighted IU.
    """
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    rows = np.array(training, dtype=np.float64).reshape(-1, 4)
    left.plot(rows[:, 0], rows[:, 3], color=BLUE, linewidth=1.6)
    if len(rows) and (rows[:, 3] > 0).all() and rows[:, 3].max() > 20 * rows[:, 3].min():
        left.set_yscale("log")
    label_axes(left, "Training loss", "step", "loss")
    rate = left.twinx()
    rate.plot(rows[:, 0], rows[:, 2], color=GRAY, linewidth=1, linestyle=":")
    rate.set_ylabel("learning rate", color=GRAY)
    rate.set_ylim(bottom=0)
    rate.tick_params(colors=GRAY)
    rate.spines["top"].set_visible(False)
    scores = np.array(evaluations, dtype=np.float64).reshape(-1, 2 + 5 * len(label_sets))
    for which, label_set in enumerate(label_sets):
        style = LINES[which % len(LINES)]
        first = 2 + 5 * which
        for column, name, color in (
            (first + 2, "mean IU", ORANGE),
            (first, "pixel accuracy", BLUE),
        ):
            values = scores[:, column]
            text = f"{label_set} {name}" + (f" {values[-1]:.3f}" if len(scores) else "")
            right.plot(
                scores[:, 0],
                values,
                color=color,
                marker="o",
                markersize=4,
                linestyle=style,
                label=text.lstrip(),
            )
            if len(scores) and len(label_sets) == 1:
                right.annotate(
                    text.lstrip(),
                    (scores[-1, 0], values[-1]),
                    xytext=(-4, 7),
                    textcoords="offset points",
                    ha="right",
                    color=color,
                )
    right.set_ylim(0, 1.05)
    right.set_xlim(left=0)
    label_axes(right, "Validation scores", "step", "")
    if len(label_sets) > 1:  # the names of so many lines would overlap
        right.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, fontsize=9, frameon=False
        )
    save_figure(figure, path)


def draw_class_bars(
    path: Path, class_iu: np.ndarray, class_accuracy: np.ndarray, names: Sequence[str]
) -> None:
    """IU of every class as bars, its accuracy as a tick; both (C,), NaN where undefined."""
    count = len(names)
    figure = new_figure(8, 1.2 + 0.27 * count)
    axes = figure.subplots()
    positions = np.arange(count)
    axes.barh(positions, np.nan_to_num(class_iu), color=BLUE, height=0.72, label="IU")
    axes.plot(class_accuracy, positions, "|", color=ORANGE, markersize=11, mew=2, label="accuracy")
    for position, value in enumerate(class_iu):
        text = "absent" if np.isnan(value) else f"{value:.3f}"
        axes.text(1.02, position, text, va="center", fontsize=9, color="#333333")
    if np.isfinite(class_iu).any():
        mean = float(np.nanmean(class_iu))
        axes.axvline(mean, color=GRAY, linewidth=1, linestyle="--", label=f"mean IU {mean:.3f}")
    axes.set_yticks(positions, labels(names), fontsize=9, parse_math=False)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, 1)
    label_axes(axes, "Intersection over union of each class", "", "")
    axes.grid(axis="y", visible=False)
    below = -0.35 / (0.27 * count)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncol=3, frameon=False)
    save_figure(figure, path)


def draw_confusion(path: Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """``matrix`` (C, C), rows = target, columns = prediction, as shares of each row."""
    count = len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    side = max(5.0, 2.2 + 0.36 * count)
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    axes.set_facecolor("#eeeeee")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), labels(names), rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(count), labels(names), fontsize=8, parse_math=False)
    axes.set_xticks(np.arange(-0.5, count), minor=True)
    axes.set_yticks(np.arange(-0.5, count), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    if count <= 40:
        for row, column in np.argwhere(np.nan_to_num(shares) >= 0.005).tolist():
            share = shares[row, column]
            color = "white" if share > 0.55 else "#333333"
            text = f"{100 * share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    axes.set_xlabel("prediction")
    axes.set_ylabel("target")
    axes.set_title("Where the pixels of each class go (% of the row)", fontsize=11)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    save_figure(figure, path)


def draw_overlays(
    path: Path, rows: Sequence[Picture], names: Sequence[str], palette: np.ndarray
) -> None:
    """Rows of image, truth, prediction and overlay, with a legend of the classes that occur."""
    from matplotlib.patches import Patch

    shown_labels = [label.ravel() for row in rows for label in (row.target, row.prediction)]
    used = np.unique(np.concatenate(shown_labels)).tolist() if rows else []
    legend = {i: shown(names[i], LONGEST) for i in used if i != IGNORE_INDEX}
    if IGNORE_INDEX in used:
        legend[IGNORE_INDEX] = "void"
    heights = [min(1.0, row.image.shape[0] / row.image.shape[1]) for row in rows]
    below = max(1.3, 0.5 + 0.2 * math.ceil(len(legend) / LEGEND_COLUMNS))
    figure = new_figure(10.4, sum(2.6 * h + 0.1 for h in heights) + below)
    grid = figure.subplots(len(rows), 4, squeeze=False, height_ratios=heights)
    for axes_row, row in zip(grid, rows, strict=True):
        columns = (
            row.image,
            colorize(row.target, palette),
            colorize(row.prediction, palette),
            overlay(row.image, row.prediction, palette),
        )
        for axes, pixels in zip(axes_row, columns, strict=True):
            axes.imshow(pixels, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(shown(row.name, LONGEST), fontsize=8, parse_math=False)
    for axes, title in zip(grid[0], ("image", "truth", "prediction", "overlay"), strict=True):
        axes.set_title(title, fontsize=11)
    patches = [Patch(facecolor=tuple(palette[i] / 255), edgecolor="#666666") for i in legend]
    box = figure.legend(
        patches,
        list(legend.values()),
        loc="outside lower center",
        ncol=LEGEND_COLUMNS,
        fontsize=9,
        frameon=False,
    )
    for text in box.get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def labels(names: Sequence[str]) -> list[str]:
    """Names of classes cut to fit beside a picture, and escaped so that matplotlib does not read
    them as formulas."""
    return [shown(name, LONGEST) for name in names]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without a display."""
    if "matplotlib" not in sys.modules:
        _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _import_matplotlib() -> None:
    """Import matplotlib even if the environment names a backend that it does not know: none is used
    here, and a long training must not end without its report."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Set title and names of the axes, and a grid behind the data."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG, atomically."""
    with atomic_path(path) as temporary:
        draw_figure(figure, temporary)


def draw_figure(figure: Figure, target: Path | IO[bytes]) -> None:
    """Write ``figure`` as a PNG."""
    with warnings.catch_warnings():
        # Warnings of letters missing in the font: they are drawn as boxes; the tables have the
        # names.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(target, format="png", metadata={"Software": None})
