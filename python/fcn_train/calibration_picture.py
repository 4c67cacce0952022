"""The reliability diagram, and below it the histogram of the winner's probability."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn_ext.calibration import Reliability
from fcn_train.pictures import BLUE, ORANGE, label_axes, new_figure, save_figure


def draw_reliability(path: Path, table: Reliability) -> None:
    """For each bin, the share of pixels that are right against their mean probability, and the
    share of all pixels in the bin."""
    figure = new_figure(5.2, 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    edges, widths = table.edges[:-1], np.diff(table.edges)
    bars = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    above.bar(edges, np.nan_to_num(table.accuracy), widths, color=BLUE, label="right", **bars)
    filled = table.count > 0
    above.hlines(
        y=table.confidence[filled],
        xmin=edges[filled],
        xmax=table.edges[1:][filled],
        color=ORANGE,
        linewidth=2.5,
        label="mean probability",
    )
    above.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle="--")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.legend(loc="upper left", fontsize=8)
    error = table.expected_calibration_error
    title = "no pixel" if np.isnan(error) else f"expected calibration error {error:.4f}"
    label_axes(above, title, "", "share of pixels that are right")
    below.bar(edges, table.count / max(1, table.num_pixels), widths, color=BLUE, **bars)
    label_axes(below, "", "probability of the predicted class", "share of pixels")
    save_figure(figure, path)
