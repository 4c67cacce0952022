"""Boundary IoU: how well the outlines of segments match, whatever the segments' size.

Only the pixels near the outline of each class are compared (Cheng et al., Boundary IoU, CVPR 2021,
section 4). With ``G`` and ``P`` the pixels of a class in target and prediction, and ``G_d`` and
``P_d`` those of them within ``d`` pixels of their outline,

    boundary IoU = |G_d & P_d| / |G_d | P_d|,   d = max(1, round(0.02 * diagonal of the image))

A distance is the greater of the distances in rows and in columns, as in repeated 3 x 3 erosions,
and the border of the image counts as an outline. Counts are added up over a data set, as for mean
IU.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext import _arguments, ops
from fcn_ext._arguments import integer, invalid_labels, not_negative, one_of, with_values
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.metrics import ConfusionMatrix, scores_from_matrix
from fcn_ext.ops import _common

__all__ = ["BoundaryIoU", "BoundaryScores"]

_VOID = -1


@dataclass(frozen=True, eq=False)
class BoundaryScores:
    """In [0, 1], or NaN where undefined."""

    mean_iou: float
    """Mean over the classes that have an outline in target or prediction."""
    class_iou: npt.NDArray[np.float64]
    """(num_classes,); NaN for classes that have none."""


class BoundaryIoU:
    """Boundary IoU accumulated over batches, on the device that the batches are on.

    Exact integers: the same on every device, for any split into batches or processes.

        >>> boundary = BoundaryIoU(num_classes=2)
        >>> target = torch.zeros(1, 100, 100, dtype=torch.uint8)
        >>> target[:, 20:60, 20:60] = 1
        >>> boundary.update(target.roll(1, 2), target)             # one pixel to the right
        >>> round(boundary.compute().class_iou[1].item(), 2)
        0.71

    Void pixels belong to no class in either map, and do not count.

    Args:
        num_classes: from 1 to 32766.
        dilation_ratio: the width of an outline relative to the image's diagonal, >= 0; it is at
            least one pixel wide.
        ignore_index: target value to skip.
        device: where the counts live; default the device of the first update.
        class_names: num_classes names, for whoever prints the scores.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dilation_ratio: float = 0.02,
        ignore_index: int = 255,
        device: torch.device | str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.num_classes = integer(num_classes, "num_classes")
        if not 1 <= self.num_classes <= 32766:
            raise ValueError(f"num_classes must be in [1, 32766], got {num_classes}")
        self.dilation_ratio = not_negative(dilation_ratio, "dilation_ratio")
        self.ignore_index = integer(ignore_index, "ignore_index")
        self.class_names = _arguments.class_names(class_names, self.num_classes)
        # One more class: pixels that are on no outline.
        self._counts = ConfusionMatrix(self.num_classes + 1, ignore_index=_VOID, device=device)

    def __repr__(self) -> str:
        return (
            f"BoundaryIoU(num_classes={self.num_classes}, dilation_ratio={self.dilation_ratio}, "
            f"ignore_index={self.ignore_index})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy counts by itself, as one of a ConfusionMatrix does.
        return {**self.__dict__, "_counts": copy.copy(self._counts)}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch of labels, both (N, H, W), of uint8, int16, int32 or int64.

        Raises:
            TypeError: one is not a tensor.
            ValueError: they differ in shape or device, or are not label maps.
        """
        _common.is_label_map(prediction, "prediction")
        _common.is_label_map(target, "target")
        _common.on_same_device(prediction, "prediction", target, "target")
        if prediction.shape != target.shape:
            raise ValueError(
                "prediction must have the shape of target, "
                f"{tuple(target.shape)}, got {tuple(prediction.shape)}"
            )
        wide = [labels.to(torch.int64) for labels in (prediction, target)]
        void = wide[1] == self.ignore_index
        outlines = [self._outlines(labels, void) for labels in wide]
        self._counts.update(*outlines)

    def update_scores(self, scores: Tensor, target: Tensor, geometry: Geometry = Resize()) -> None:
        """Adds a batch of coarse scores (N, num_classes, h, w) as if taken to the target's size.

        Raises:
            TypeError, ValueError: as :meth:`update` and :func:`fcn_ext.ops.argmax`, or ``scores``
                does not have ``num_classes`` channels.
        """
        _common.is_scored_batch(scores, target, self.num_classes, geometry)
        _common.is_label_map(target, "target")
        self.update(ops.argmax(scores, (target.shape[1], target.shape[2]), geometry), target)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sums the counts over processes: as :meth:`ConfusionMatrix.all_reduce
        <fcn_ext.metrics.ConfusionMatrix.all_reduce>`."""
        self._counts.all_reduce(group)

    def compute(self, *, on_invalid: str = "raise") -> BoundaryScores:
        """The scores of all batches so far. Waits for the device.

        Args:
            on_invalid: "raise", or "drop" to score without the pixels out of range.

        Raises:
            ValueError: labels other than ``ignore_index`` were outside ``[0, num_classes)``.
        """
        one_of(on_invalid, ("raise", "drop"), "on_invalid")
        invalid = int(with_values(self._counts.invalid, "labels"))
        if invalid and on_invalid == "raise":
            raise invalid_labels(invalid, self.num_classes, self.ignore_index)
        iou = scores_from_matrix(self._counts.matrix).class_iu[:-1]
        present = iou[~np.isnan(iou)]
        return BoundaryScores(float(present.mean()) if present.size else float("nan"), iou)

    def reset(self) -> None:
        """Forgets all batches. The device stays."""
        self._counts.reset()

    def _outlines(self, labels: Tensor, void: Tensor) -> Tensor:
        """The labels of pixels near an outline; num_classes for the rest, and _VOID for void
        pixels."""
        known = (labels >= 0) & (labels < self.num_classes)
        # Labels out of range stay so.
        labels = torch.where(known, labels, self.num_classes + 1).masked_fill_(void, _VOID)
        labels = labels.to(torch.int16)  # the most per vector register
        diagonal = math.hypot(*labels.shape[1:])
        # At most the size of the image: the product may be infinite.
        distance = max(1, round(min(self.dilation_ratio * diagonal, diagonal)))
        inside = _alike_around(labels, distance) & known & ~void
        return labels.masked_fill_(inside, self.num_classes)


def _alike_around(labels: Tensor, distance: int) -> Tensor:
    """Pixels around which all pixels up to ``distance`` rows and columns away exist and have the
    same label."""
    alike = torch.zeros_like(labels, dtype=torch.bool)
    side = 2 * distance + 1
    if min(labels.shape[1:]) >= side:
        inner = alike[:, distance : alike.shape[1] - distance, distance : alike.shape[2] - distance]
        least = _over_windows(labels, side, torch.minimum)
        inner.copy_(least == _over_windows(labels, side, torch.maximum))
    return alike


def _over_windows(labels: Tensor, side: int, best: Any) -> Tensor:
    """The least or greatest label of each ``side`` x ``side`` window, from windows of doubling
    length."""
    for dim in (1, 2):
        length = 1
        while length < side:
            step = min(length, side - length)
            count = labels.shape[dim] - step
            labels = best(labels.narrow(dim, 0, count), labels.narrow(dim, step, count))
            length += step
    return labels
