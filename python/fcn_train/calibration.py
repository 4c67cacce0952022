"""`fcn evaluate --calibration`: whether a network's probabilities match how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fcn_ext.calibration import Calibration, Reliability
from fcn_ext.metrics import ConfusionMatrix
from fcn_train.calibration_picture import draw_reliability
from fcn_train.history import write_csv
from fcn_train.options import Logits
from fcn_train.per_image import Add
from fcn_train.probabilities import sure_labels
from fcn_train.views import Views

KEY = "expected_calibration_error"  # in metrics.json, if there is a calibration
HEADER = ("above", "up_to", "pixels", "confidence", "accuracy")


def batch_counters(
    model: Any,
    images: Tensor,
    logits: Logits,
    views: Views,
    calibrations: Sequence[Calibration],
) -> list[Add]:
    """Like :func:`fcn_train.per_image.batch_counters`, but labels are also added to the calibration
    of their head."""

    def of_head(labels: Tensor, probability: Tensor, calibration: Calibration) -> Add:
        def add(matrix: ConfusionMatrix, target: Tensor, some: slice) -> None:
            matrix.update(labels[some], target[some])
            calibration.update(labels[some], probability[some], target[some])

        return add

    found = sure_labels(model, images, views, logits)
    return [of_head(*of, each) for of, each in zip(found, calibrations, strict=True)]


def values(table: Reliability) -> dict[str, float]:
    """The entries for ``metrics.json``."""
    return {
        KEY: table.expected_calibration_error,
        "maximum_calibration_error": table.maximum_calibration_error,
    }


def write(folder: Path, end: str, table: Reliability) -> None:
    """``calibration.csv`` and ``calibration.png``, with ``end`` before the dot."""
    columns = (table.edges[:-1], table.edges[1:], table.count, table.confidence, table.accuracy)
    rows = [[value.item() for value in row] for row in zip(*columns, strict=True)]
    empty = [["" if np.isnan(value) else value for value in row] for row in rows]
    write_csv(folder / f"calibration{end}.csv", HEADER, empty)
    draw_reliability(folder / f"calibration{end}.png", table)
