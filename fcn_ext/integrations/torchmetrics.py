"""torchmetrics' Jaccard index and mean IoU, from our counts.

Inside :class:`~fcn_ext.deferred.fused_upsampling` torchmetrics itself takes labels from coarse
scores. These need no context and no torchmetrics.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext._arguments import flag, integer, is_one_of, number, shown
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.integrations._counted import REDUCED_VOID, Counted, square
from fcn_ext.metrics import sum_over_processes

__all__ = ["JaccardIndex", "MeanIoU", "jaccard_index"]

AVERAGES = ("micro", "macro", "weighted", "none")


def jaccard_index(
    matrix: Tensor,
    average: Literal["micro", "macro", "weighted", "none"] | None = "macro",
    *,
    ignore_index: int | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``multiclass_jaccard_index`` of a confusion matrix (num_classes, num_classes), rows = target.

        >>> jaccard_index(torch.tensor([[3, 1], [0, 4]]))
        tensor(0.7750, dtype=torch.float64)

    Args:
        matrix: counts, int64.
        average: "macro", the mean over classes that are present or predicted; "weighted" by the
            target's pixels; "micro", of all pixels together; "none" or None, of each class.
        ignore_index: if it is a class, that class is left out of "macro", and of the denominator of
            "micro".
        zero_division: the index of a class that is neither present nor predicted.

    Returns:
        float64 (), or (num_classes,) of each class.

    Raises:
        TypeError: ``zero_division`` is not a number, or ``ignore_index`` not an integer.
        ValueError: ``average`` is none of the above, or ``matrix`` is not square, or holds no
            counts.
    """
    if not (average is None or is_one_of(average, AVERAGES)):
        raise ValueError(
            f"average must be 'micro', 'macro', 'weighted', 'none' or None, got {shown(average)}"
        )
    if ignore_index is not None:
        ignore_index = integer(ignore_index, "ignore_index")
    counts = square(matrix).to(torch.float64)
    target, predicted, both = counts.sum(1), counts.sum(0), counts.diagonal()
    either = target + predicted - both
    is_class = ignore_index is not None and 0 <= ignore_index < len(counts)
    if average == "micro":
        both, either = both.sum(), either.sum() - (either[ignore_index] if is_class else 0)
    index = torch.where(either > 0, both / either, number(zero_division, "zero_division"))
    if average in ("none", None, "micro"):
        return index
    if average == "weighted":
        weight = target
    else:
        weight = (target + predicted > 0).to(torch.float64)
        if is_class:
            weight[ignore_index] = 0
    return (weight * index / weight.sum()).sum()


class JaccardIndex(Counted):
    """``torchmetrics.JaccardIndex(task="multiclass")``, also from coarse scores.

        >>> metric = JaccardIndex(num_classes=21, ignore_index=255)
        >>> metric.update(torch.randn(2, 21, 8, 8), torch.randint(0, 21, (2, 64, 64)))
        >>> metric.compute().shape
        torch.Size([])

    Args:
        num_classes: from 1 to 32768.
        average, ignore_index, zero_division: of :func:`jaccard_index`; pixels with the label
            ``ignore_index`` do not count.
        reduce_labels: labels are the class plus one, and 0 is void; 0 and 255 become 255, which is
            then the default of ``ignore_index``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        average: Literal["micro", "macro", "weighted", "none"] | None = "macro",
        ignore_index: int | None = None,
        zero_division: float = 0.0,
        reduce_labels: bool = False,
    ) -> None:
        none = REDUCED_VOID if flag(reduce_labels, "reduce_labels") else -1
        void = none if ignore_index is None else ignore_index
        super().__init__(num_classes, ignore_index=void, reduce_labels=reduce_labels)
        self.average = average
        self.ignore_index = ignore_index
        self.zero_division = zero_division
        jaccard_index(self.counts.matrix, average, zero_division=zero_division)

    def compute(self) -> Tensor:
        """The index of all batches so far; see :func:`jaccard_index`.

        Raises:
            ValueError: labels were out of range.
        """
        return jaccard_index(
            self._matrix(),
            self.average,
            ignore_index=self.ignore_index,
            zero_division=self.zero_division,
        )


class MeanIoU(Counted):
    """``torchmetrics.segmentation.MeanIoU(input_format="index")``, also from coarse scores.

    The mean over images and classes, where each image contributes the classes that are present or
    predicted in it (torchmetrics 1.9). Every pixel counts, as torchmetrics has no void label.

        >>> metric = MeanIoU(num_classes=5)
        >>> metric.update(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 64, 64)))
        >>> metric.compute().shape
        torch.Size([])

    Args:
        num_classes: from 1 to 32768.
        include_background: whether class 0 counts.
        per_class: return the mean of each class, -1 if no image has it.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``num_classes`` is out of range.
    """

    def __init__(
        self, num_classes: int, *, include_background: bool = True, per_class: bool = False
    ) -> None:
        for name, value in (("include_background", include_background), ("per_class", per_class)):
            flag(value, name)
        super().__init__(num_classes, ignore_index=-1)
        self.include_background = include_background
        self.per_class = per_class
        # Not on the default device, which may be without memory.
        self._sums = torch.zeros(2, num_classes, dtype=torch.float64, device="cpu")

    def update(self, predictions: Any, references: Any, geometry: Geometry = Resize()) -> None:
        """Adds a batch: as :meth:`JaccardIndex.update`."""
        with self.counts.all_or_nothing():
            sums = self._sums
            for prediction, target in self._batches(predictions, references):
                for image, labels in zip(prediction, target, strict=True):
                    before = self.counts.matrix
                    self._count(image[None], labels[None], geometry)
                    counts = (self.counts.matrix - before.to(labels.device)).to(torch.float64)
                    both = counts.diagonal()
                    either = counts.sum(0) + counts.sum(1) - both
                    seen = either > 0
                    index = torch.where(seen, both / either, 0)
                    sums = sums.to(labels.device) + torch.stack([index, seen.double()])
            self._sums = sums

    def compute(self) -> Tensor:
        """The mean of all images so far: float64 (), or (num_classes,) with ``per_class``, without
        class 0 if the background does not count. NaN if there are none.

        Raises:
            ValueError: labels were out of range.
        """
        self.counts.compute()  # raises if labels were out of range
        score, images = self._sums[:, 0 if self.include_background else 1 :]
        if self.per_class:
            return torch.where(images > 0, score / images, -1.0)
        mean: Tensor = score.sum() / images.sum()
        return mean

    def reset(self) -> None:
        """Forgets all batches."""
        with self.counts.all_or_nothing():  # so that no update of another thread comes between
            super().reset()
            self._sums = torch.zeros_like(self._sums)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sums over processes, as :meth:`ConfusionMatrix.all_reduce
        <fcn_ext.metrics.ConfusionMatrix.all_reduce>`, which says when nothing is done."""
        super().all_reduce(group)
        if not (dist.is_available() and dist.is_initialized()) or dist.get_rank(group) < 0:
            return
        total = sum_over_processes(self._sums, group, "num_classes", self.counts.num_classes)
        self._sums = total.to(self._sums.device)
