"""The metric ``mean_iou`` of Hugging Face's evaluate, from our counts.

``evaluate`` keeps all label maps until the end, and takes labels at full size. Here batches are
counted as they come, from the coarse scores of a model, and the dictionary is the same.
:func:`compute_metrics` makes the callable that transformers' ``Trainer`` takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fcn_ext._arguments import integer, shown
from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.integrations._counted import Areas, Counted, mean, number_or_none

__all__ = ["MeanIoU", "compute_metrics", "metrics_of"]


def metrics_of(matrix: Tensor, nan_to_num: float | None = None) -> dict[str, Any]:
    """``evaluate``'s dictionary of a confusion matrix (num_labels, num_labels), rows = target.

    ``mean_iou`` is the mean over classes that are present or predicted, ``mean_accuracy`` over
    those present, ``overall_accuracy`` of all pixels; ``per_category_iou`` and
    ``per_category_accuracy`` are float64 (num_labels,), NaN where undefined, or ``nan_to_num``.

        >>> import torch
        >>> found = metrics_of(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
        >>> found["per_category_iou"].round(2).tolist(), round(found["mean_iou"], 3)
        ([0.75, 0.67, nan], 0.708)

    Raises:
        TypeError: ``matrix`` is not a tensor, or ``nan_to_num`` not a number.
        ValueError: ``matrix`` is not square, or holds no counts.
    """
    nan_to_num = number_or_none(nan_to_num, "nan_to_num")
    areas = Areas(matrix)
    iou, accuracy = areas.iou(), areas.accuracy()
    found: dict[str, Any] = {
        "mean_iou": mean(iou),
        "mean_accuracy": mean(accuracy),
        "overall_accuracy": areas.overall_accuracy(),
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }
    if nan_to_num is None:
        return found
    return {name: np.nan_to_num(value, nan=nan_to_num) for name, value in found.items()}


class MeanIoU(Counted):
    """``evaluate.load("mean_iou")``: the same dictionary, counted as batches come. As there,
    :meth:`compute` also resets the counts.

        >>> import torch
        >>> metric = MeanIoU(num_labels=150, reduce_labels=True)
        >>> scores, labels = torch.randn(2, 150, 32, 32), torch.randint(0, 151, (2, 128, 128))
        >>> metric.add_batch(predictions=scores, references=labels)
        >>> sorted(metric.compute())[:3]
        ['mean_accuracy', 'mean_iou', 'overall_accuracy']

    Labels that are neither classes nor ``ignore_index`` raise an error when the scores are asked
    for; ``evaluate`` does not count them as pixels of the target, but counts what was predicted
    there.

    Args:
        num_labels: classes, from 1 to 32768.
        ignore_index: label of pixels that do not count, after labels are reduced.
        reduce_labels: labels are the class plus one, and 0 is void, as in ADE20K's files; 0 and 255
            become 255.
        nan_to_num: what to put in place of NaN in the result.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``num_labels`` is out of range.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        ignore_index: int = 255,
        reduce_labels: bool = False,
        nan_to_num: float | None = None,
    ) -> None:
        num_labels = integer(num_labels, "num_labels")
        if not 1 <= num_labels <= MOST_CLASSES:
            raise ValueError(f"num_labels must be in [1, {MOST_CLASSES}], got {num_labels}")
        super().__init__(num_labels, ignore_index=ignore_index, reduce_labels=reduce_labels)
        self.nan_to_num = number_or_none(nan_to_num, "nan_to_num")

    def add(self, *, prediction: Any, reference: Any) -> None:
        """:meth:`update` with one image, as ``evaluate`` has it: labels (H, W), or scores
        (C, h, w)."""
        self.update([prediction], [reference])

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """:meth:`update` by the names that ``evaluate`` gives the arguments."""
        self.update(predictions, references)

    def compute(self, *, predictions: Any = None, references: Any = None) -> dict[str, Any]:
        """The dictionary of :func:`metrics_of` for all batches since the last call, after adding
        one more batch if given.

        Raises:
            TypeError, ValueError: as :meth:`update`.
            ValueError: labels were out of range. The counts are then kept until :meth:`reset`.
        """
        if predictions is not None or references is not None:
            self.update(predictions, references)
        with self.counts.all_or_nothing():  # no update of another thread comes between
            found = metrics_of(self._matrix(), self.nan_to_num)
            self.reset()
        return found


def _names_by_number(id2label: Any, num_labels: int) -> dict[int, str] | None:
    if id2label is None:
        return None
    if not isinstance(id2label, Mapping):
        raise TypeError(f"id2label must be a dict of names by number, got {shown(id2label)}")
    names = {integer(index, "id2label"): name for index, name in id2label.items()}
    for index in names:
        if not 0 <= index < num_labels:
            raise ValueError(
                f"id2label must have numbers in [0, num_labels) = [0, {num_labels}), got {index}"
            )
    return names


def _batches(predictions: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    """Scores and labels that a ``Trainer`` has collected: one batch, or a list of them with
    ``eval_do_concat_batches=False``."""
    if not (isinstance(predictions, list) and isinstance(labels, list)):
        yield _scores(predictions), labels
        return
    if len(predictions) != len(labels):
        raise ValueError(
            "predictions and label_ids must have as many batches, got "
            f"{len(predictions)} and {len(labels)}"
        )
    yield from zip(map(_scores, predictions), labels, strict=True)


def _scores(predictions: Any) -> Any:
    if isinstance(predictions, (list, tuple)):
        return predictions[0]  # hidden states and the like follow
    return predictions


class _TrainerMetrics:
    """The callable for ``Trainer``, which calls it once at the end or batch by batch."""

    def __init__(self, metric: MeanIoU, id2label: Mapping[int, str] | None) -> None:
        self.metric = metric
        self.id2label = _names_by_number(id2label, metric.counts.num_classes)

    def __call__(self, prediction: Any, compute_result: bool = True) -> dict[str, Any]:
        try:
            for scores, labels in _batches(prediction.predictions, prediction.label_ids):
                self.metric.update(scores, labels)
            if not compute_result:
                return {}
            found = self.metric.compute()
        except Exception:
            self.metric.reset()  # or a failed evaluation would affect the next ones
            raise
        iou = found.pop("per_category_iou").tolist()
        accuracy = found.pop("per_category_accuracy").tolist()
        if self.id2label is None:
            return {**found, "per_category_iou": iou, "per_category_accuracy": accuracy}
        for index, name in self.id2label.items():
            found[f"iou_{name}"], found[f"accuracy_{name}"] = iou[index], accuracy[index]
        return found


def compute_metrics(
    num_labels: int,
    *,
    ignore_index: int = 255,
    reduce_labels: bool = False,
    nan_to_num: float | None = None,
    id2label: Mapping[int, str] | None = None,
) -> Any:
    """A ``compute_metrics`` for transformers' ``Trainer``: :class:`MeanIoU` of coarse logits.

    ``Trainer(..., compute_metrics=compute_metrics(150))`` needs no upsampling and no ``evaluate``.
    With the training argument ``batch_eval_metrics=True``, only counts are kept; with
    ``eval_do_concat_batches=False``, batches may differ in size.

        >>> from types import SimpleNamespace
        >>> scores, labels = np.random.randn(2, 3, 8, 8), np.random.randint(0, 3, (2, 32, 32))
        >>> outcome = SimpleNamespace(predictions=scores, label_ids=labels)
        >>> sorted(compute_metrics(3, id2label={0: "a", 1: "b", 2: "c"})(outcome))[:3]
        ['accuracy_a', 'accuracy_b', 'accuracy_c']

    Args:
        num_labels, ignore_index, reduce_labels, nan_to_num: of :class:`MeanIoU`.
        id2label: names of classes by number, as a model's configuration has them. With it each
            class has its own entries, ``iou_<name>`` and ``accuracy_<name>``; without, there are
            two lists.

    Raises:
        TypeError, ValueError: as :class:`MeanIoU`, or ``id2label`` has no number of a class.
    """
    metric = MeanIoU(
        num_labels, ignore_index=ignore_index, reduce_labels=reduce_labels, nan_to_num=nan_to_num
    )
    return _TrainerMetrics(metric, id2label)
