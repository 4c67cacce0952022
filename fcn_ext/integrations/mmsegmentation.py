"""The dictionary of mmsegmentation's ``IoUMetric``, from our counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fcn_ext._arguments import not_negative, shown
from fcn_ext.integrations._counted import Areas, Counted, mean, number_or_none, share

__all__ = ["IoUMetric", "class_metrics_of"]

METRICS = ("mIoU", "mDice", "mFscore")


def class_metrics_of(
    matrix: Tensor, metrics: str | Sequence[str] = ("mIoU",), beta: float = 1
) -> dict[str, np.ndarray]:
    """The values of each class that ``IoUMetric`` averages, float64 (num_classes,) in [0, 1].

    "mIoU" is IoU and Acc, "mDice" Dice and Acc, "mFscore" Fscore, Precision and Recall. Values
    without a pixel to divide by are NaN: Acc and Recall of classes absent from the target,
    Precision of classes never predicted, IoU and Dice of classes that are neither, and Fscore of
    classes without a hit.

        >>> import torch
        >>> found = class_metrics_of(torch.tensor([[3, 1], [0, 4]]), ["mIoU", "mDice"])
        >>> {name: values.round(2).tolist() for name, values in found.items()}
        {'IoU': [0.75, 0.8], 'Acc': [0.75, 1.0], 'Dice': [0.86, 0.89]}

    Args:
        matrix: counts (num_classes, num_classes), rows = target.
        metrics: of "mIoU", "mDice" and "mFscore"; one name, or a list of them.
        beta: the weight of recall in Fscore, >= 0 and finite.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``matrix`` is not square, or holds no counts, a metric has another name, or
            ``beta`` is out of range.
    """
    names = _names(metrics, "metrics")
    return _class_metrics(Areas(matrix), names, not_negative(beta, "beta"))


def _names(metrics: Any, name: str) -> tuple[str, ...]:
    """``metrics``, an argument of that ``name``, as the names of metrics."""
    if isinstance(metrics, str):
        metrics = (metrics,)
    elif not isinstance(metrics, Iterable) or getattr(metrics, "ndim", 1) != 1:
        raise TypeError(f"{name} must be a list of names, got {shown(metrics)}")
    names = tuple(metrics)
    for given in names:
        if not isinstance(given, str) or given not in METRICS:
            raise ValueError(f"{name} must be of {', '.join(METRICS)}, got {shown(given)}")
    return names


def _class_metrics(areas: Areas, metrics: Sequence[str], beta: float) -> dict[str, np.ndarray]:
    accuracy = areas.accuracy()
    found: dict[str, np.ndarray] = {}
    for name in metrics:
        if name == "mFscore":
            precision, recall = share(areas.both, areas.predicted), accuracy
            squared = beta**2
            weighted = (1 + squared) * precision * recall
            found["Fscore"] = share(weighted, squared * precision + recall)
            found["Precision"], found["Recall"] = precision, recall
            continue
        if name == "mIoU":
            found["IoU"] = areas.iou()
        else:
            found["Dice"] = share(2 * areas.both, areas.target + areas.predicted)
        found["Acc"] = accuracy
    return found


class IoUMetric(Counted):
    """mmsegmentation's ``IoUMetric``: aAcc, mIoU, mAcc, mDice, mFscore, mPrecision and mRecall.

    Percentages with two decimals, by its conventions for classes without a pixel: each mean leaves
    out NaN. mmsegmentation sums counts in float32, which is exact up to 2**24; these counts are
    always exact.

        >>> import torch
        >>> metric = IoUMetric(num_classes=19)
        >>> metric.update(torch.randn(1, 19, 16, 32), torch.randint(0, 19, (1, 128, 256)))
        >>> list(metric.compute())
        ['aAcc', 'mIoU', 'mAcc']

    Args:
        num_classes: from 1 to 32768.
        ignore_index: label of pixels that do not count.
        iou_metrics: of "mIoU", "mDice" and "mFscore"; one name, or a list of them.
        nan_to_num: what to put in place of NaN before the means are taken.
        beta: the weight of recall in Fscore, >= 0 and finite.
        reduce_labels: labels are the class plus one, and 0 is void; mmsegmentation's
            ``reduce_zero_label``, which its data sets apply.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``num_classes`` or ``beta`` is out of range, or a metric has another name.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        iou_metrics: str | Sequence[str] = ("mIoU",),
        nan_to_num: float | None = None,
        beta: float = 1,
        reduce_labels: bool = False,
    ) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, reduce_labels=reduce_labels)
        self.iou_metrics = _names(iou_metrics, "iou_metrics")
        self.nan_to_num = number_or_none(nan_to_num, "nan_to_num")
        self.beta = not_negative(beta, "beta")

    def compute(self) -> dict[str, float]:
        """The dictionary that ``IoUMetric`` returns.

        Raises:
            ValueError: labels were out of range.
        """
        areas = Areas(self._matrix())
        overall = self._filled(np.asarray(areas.overall_accuracy()))
        classes = _class_metrics(areas, self.iou_metrics, self.beta)
        means = {f"m{name}": self._filled(values) for name, values in classes.items()}
        return {
            name: round(100 * mean(values), 2)
            for name, values in {"aAcc": overall, **means}.items()
        }

    def per_class(self) -> dict[str, np.ndarray]:
        """The table that it prints, without the names: percentages with two decimals.

        Raises:
            ValueError: labels were out of range.
        """
        classes = class_metrics_of(self._matrix(), self.iou_metrics, self.beta)
        return {name: np.round(100 * self._filled(v), 2) for name, v in classes.items()}

    def _filled(self, values: Any) -> np.ndarray:
        if self.nan_to_num is None:
            return np.asarray(values)
        return np.asarray(np.nan_to_num(values, nan=self.nan_to_num))
