"""The picture of `fcn describe`: what cells in the middle see of the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcn_ext.models import Layer, Region
from fcn_train.files import make_folder
from fcn_train.pictures import BLUE, LONGEST, ORANGE, new_figure, save_figure
from fcn_train.shown import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fcn_train.describe import Measured


def draw_fields(
    path: Path,
    title: str,
    size: tuple[int, int],
    layers: Mapping[str, Layer],
    measured: Mapping[str, Measured],
) -> None:
    """The fields of all layers as boxes in the image, and beside them the measured gradients."""
    figure = new_figure(5.2 * (1 + len(measured)), 5.6)
    first, *others = figure.subplots(1, 1 + len(measured), squeeze=False)[0]
    _frame(first, size, f"{shown(title, LONGEST)}: fields by geometry")
    regions = {name: layer.sees() for name, layer in layers.items()}
    # Layers of one field are one box, called by the first of them.
    boxes: dict[Region, str] = {}
    for name, region in regions.items():
        boxes.setdefault(region, name)
    labeled = 0
    for number, (region, name) in enumerate(reversed(boxes.items())):
        _box(first, region, BLUE, alpha=1 - 0.75 * number / len(boxes))
        if number == 0 or region.top - labeled > size[0] / 25:  # no label on another
            labeled = region.top
            text = f"{shown(name, 20)} {region.size[0]}"
            first.text(region.right, region.top, text, fontsize=6, parse_math=False)
    for axes, (name, found) in zip(others, measured.items(), strict=True):
        height, width = found.region.size
        _frame(axes, size, f"{shown(name, LONGEST)}: gradient, {height} x {width} measured")
        values = np.sqrt(found.gradient / max(found.gradient.max(), np.finfo(float).tiny))
        axes.imshow(values, cmap="Greys", extent=(0, size[1], size[0], 0), vmin=0, vmax=1)
        _box(axes, regions[name], BLUE, label=f"geometry {regions[name].size[0]}")
        _box(axes, found.region, ORANGE, label=f"gradient not 0: {height}", linestyle="--")
        axes.legend(loc="upper right", fontsize=7)
    make_folder(path.parent)
    save_figure(figure, path)


def _frame(axes: Axes, size: tuple[int, int], title: str) -> None:
    axes.set_xlim(0, size[1])
    axes.set_ylim(size[0], 0)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=10, parse_math=False)


def _box(
    axes: Axes,
    region: Region,
    color: str,
    *,
    alpha: float = 1.0,
    label: str = "",
    linestyle: str = "-",
) -> None:
    from matplotlib.patches import Rectangle

    height, width = region.size
    axes.add_patch(
        Rectangle(
            (region.left, region.top),
            width,
            height,
            fill=False,
            color=color,
            alpha=alpha,
            label=label,
            linestyle=linestyle,
        )
    )
