"""`fcn evaluate --calibration`: whether a network is as often right as it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fcn_ext import ops
from fcn_ext.calibration import Calibration, Reliability
from fcn_ext.metrics import ConfusionMatrix
from fcn_train.calibration_picture import draw_reliability
from fcn_train.heads import head_list, in_order
from fcn_train.history import write_csv
from fcn_train.options import Logits
from fcn_train.views import Views

HEADER = ("above", "up_to", "pixels", "confidence", "accuracy")


def sure_labels(
    model: Any, images: Tensor, views: Views, logits: Logits
) -> list[tuple[Tensor, Tensor]]:
    """For each head labels (N, H, W), and the probability of each."""
    if views.several:
        return [each.argmax(return_probability=True) for each in views.average(model, images)]
    size = (images.shape[2], images.shape[3])
    if logits == "full":
        made = in_order(model(images))
        return [ops.argmax(each, size, return_probability=True) for each in made]
    return [
        ops.argmax(scores, size, head.geometry, return_probability=True)
        for scores, head in zip(in_order(model.scores(images)), head_list(model), strict=True)
    ]


def count(
    found: Sequence[tuple[Tensor, Tensor]],
    targets: Sequence[Tensor],
    matrices: Sequence[ConfusionMatrix],
    calibrations: Sequence[Calibration],
) -> None:
    """Adds the labels of each head to its counts."""
    for (labels, probability), target, matrix, calibration in zip(
        found, targets, matrices, calibrations, strict=True
    ):
        matrix.update(labels, target)
        calibration.update(labels, probability, target)


def values(table: Reliability) -> dict[str, float]:
    """As ``metrics.json`` has them."""
    return {
        "expected_calibration_error": table.expected_calibration_error,
        "maximum_calibration_error": table.maximum_calibration_error,
    }


def write(folder: Path, end: str, table: Reliability) -> None:
    """``calibration.csv`` and ``calibration.png``, with ``end`` before the dot."""
    columns = (table.edges[:-1], table.edges[1:], table.count, table.confidence, table.accuracy)
    rows = [[value.item() for value in row] for row in zip(*columns, strict=True)]
    empty = [["" if np.isnan(value) else value for value in row] for row in rows]
    write_csv(folder / f"calibration{end}.csv", HEADER, empty)
    draw_reliability(folder / f"calibration{end}.png", table)


def section(end: str, of_set: str) -> str:
    """Of the report's page."""
    return (
        f"<h2>Calibration{of_set}</h2>"
        f'<img src="calibration{end}.png" alt="accuracy against the winner\'s probability">'
    )
