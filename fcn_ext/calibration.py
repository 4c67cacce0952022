"""Calibration: whether predictions with a probability of 80 % are right in 80 % of their pixels.

Pixels are sorted by the winner's probability into bins of equal width; bin ``m`` of ``M`` holds
probabilities in ``((m - 1) / M, m / M]``. With ``n_m`` pixels, of which a share ``acc_m`` is right,
and ``conf_m`` their mean probability (Guo et al., On Calibration of Modern Neural Networks, section
2),

    expected calibration error   sum_m n_m / n |acc_m - conf_m|
    maximum calibration error    max_m |acc_m - conf_m|
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import _arguments, ops
from fcn_ext._arguments import integer, invalid_labels, one_of, with_values
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.metrics import sum_over_processes
from fcn_ext.ops import _common

__all__ = ["Calibration", "Reliability"]

# Probabilities are added up as integer multiples of 1 / _ONE: exactly and in any order, for fewer
# than 2**33 pixels.
_ONE = 2**30


@dataclass(frozen=True, eq=False)
class Reliability:
    """The table that a reliability diagram is drawn from, and its two errors."""

    edges: npt.NDArray[np.float64]
    """(num_bins + 1,); bin m holds probabilities in (edges[m], edges[m + 1]]; the first, 0 too."""
    count: npt.NDArray[np.int64]
    """(num_bins,), the histogram of the winner's probability."""
    confidence: npt.NDArray[np.float64]
    """(num_bins,), mean probability; NaN for empty bins."""
    accuracy: npt.NDArray[np.float64]
    """(num_bins,), share of the pixels that are right; NaN for empty bins."""
    expected_calibration_error: float
    """NaN without a pixel."""
    maximum_calibration_error: float
    """NaN without a pixel."""

    @property
    def num_pixels(self) -> int:
        """Counted pixels: void and invalid ones excluded."""
        return int(self.count.sum())


class Calibration:
    """The reliability table accumulated over batches, on the device that the batches are on.

    Exact integers: the same on every device, for any split into batches or processes; on CUDA no
    update waits for the device. An update that raises leaves them as they were.

        >>> calibration = Calibration(num_classes=21, num_bins=10)
        >>> scores, target = torch.randn(2, 21, 8, 8), torch.randint(0, 21, (2, 64, 64))
        >>> calibration.update_scores(scores, target)
        >>> table = calibration.compute()
        >>> table.num_pixels, table.count.shape
        (8192, (10,))
        >>> 0 < table.expected_calibration_error < 1
        True

    Args:
        num_classes: >= 1.
        num_bins: from 1 to 65536.
        ignore_index: target value to skip.
        device: where the counts live; default the device of the first update.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        num_bins: int = 15,
        ignore_index: int = 255,
        device: torch.device | str | None = None,
    ) -> None:
        self.num_classes = integer(num_classes, "num_classes")
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be >= 1, got {num_classes}")
        self.num_bins = integer(num_bins, "num_bins")
        if not 1 <= self.num_bins <= 65536:
            raise ValueError(f"num_bins must be in [1, 65536], got {num_bins}")
        self.ignore_index = integer(ignore_index, "ignore_index")
        self._lock = threading.RLock()
        # One row per bin, one for invalid pixels and one for void: the number of pixels, the number
        # of right ones, and the sum of probabilities. Not on the default device, which may have no
        # memory.
        place = _arguments.device("cpu" if device is None else device, "device")
        # Nor made in inference mode: such a tensor could not be added to outside of it.
        with torch.inference_mode(False):
            self._table = torch.zeros(self.num_bins + 2, 3, dtype=torch.int64, device=place)
        self._placed = device is not None

    def __repr__(self) -> str:
        return (
            f"Calibration(num_classes={self.num_classes}, num_bins={self.num_bins}, "
            f"ignore_index={self.ignore_index})"
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {**self.__dict__, "_table": self._table.clone()}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with torch.inference_mode(False):
            self._table = self._table.clone()
        self._lock = threading.RLock()

    def update(self, prediction: Tensor, probability: Tensor, target: Tensor) -> None:
        """Adds a batch: labels, their probabilities and the target, all (N, H, W).

        The first two are what ``ops.argmax(..., return_probability=True)`` and
        ``CoarseWindows.argmax(return_probability=True)`` return.

        Raises:
            TypeError: one is not a tensor.
            ValueError: they differ in shape or device, labels are not integers, or probabilities
                are not floating.
        """
        _common.is_label_map(target, "target")
        _common.is_label_map(prediction, "prediction")
        _common.is_tensor(probability, "probability")
        for tensor, name in ((prediction, "prediction"), (probability, "probability")):
            _common.on_same_device(target, "target", tensor, name)
            if tensor.shape != target.shape:
                raise ValueError(
                    f"{name} must have the shape of target, {tuple(target.shape)}, got "
                    f"{tuple(tensor.shape)}"
                )
        if not probability.is_floating_point():
            raise ValueError(f"probability must be floating, got {probability.dtype}")
        self._add(zip(prediction, probability, target, strict=True), target.device)

    def update_scores(self, scores: Tensor, target: Tensor, geometry: Geometry = Resize()) -> None:
        """Adds a batch of coarse scores (N, num_classes, h, w) as if taken to the target's size.

        Raises:
            TypeError, ValueError: as :meth:`update` and :func:`fcn_ext.ops.argmax`, or ``scores``
                does not have ``num_classes`` channels.
        """
        _common.is_scored_batch(scores, target, self.num_classes, geometry)
        _common.is_label_map(target, "target")
        size = (target.shape[1], target.shape[2])
        self.update(*ops.argmax(scores, size, geometry, return_probability=True), target)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sums the counts over processes: as :meth:`ConfusionMatrix.all_reduce
        <fcn_ext.metrics.ConfusionMatrix.all_reduce>`."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_rank(group) < 0:
            return
        with self._lock:
            self._table.copy_(sum_over_processes(self._table, group, "num_bins", self.num_bins))

    def compute(self, *, on_invalid: str = "raise") -> Reliability:
        """The table of all batches so far. Waits for the device.

        Args:
            on_invalid: "raise", or "drop" to leave invalid pixels out.

        Raises:
            ValueError: labels other than ``ignore_index`` were outside ``[0, num_classes)``, or
                probabilities outside [0, 1] or NaN.
        """
        one_of(on_invalid, ("raise", "drop"), "on_invalid")
        with self._lock:
            table = with_values(self._table, "labels").cpu().numpy().copy()
        if (invalid := int(table[self.num_bins, 0])) and on_invalid == "raise":
            more = ", and probabilities in [0, 1]"
            raise invalid_labels(invalid, self.num_classes, self.ignore_index, more)
        count, right, sure = table[: self.num_bins].T
        with np.errstate(divide="ignore", invalid="ignore"):
            accuracy, confidence = right / count, sure / _ONE / count
        filled = count > 0
        gap = np.abs(right - sure / _ONE)[filled]
        return Reliability(
            edges=np.arange(self.num_bins + 1) / self.num_bins,
            count=count.copy(),
            confidence=confidence,
            accuracy=accuracy,
            expected_calibration_error=float(gap.sum() / count.sum()) if gap.size else np.nan,
            maximum_calibration_error=float((gap / count[filled]).max()) if gap.size else np.nan,
        )

    def reset(self) -> None:
        """Forgets all batches. The device stays."""
        with self._lock:
            self._table.zero_()

    @torch.no_grad()
    def _add(self, images: Any, device: torch.device) -> None:
        table = torch.zeros(self.num_bins + 2, 3, dtype=torch.int64, device=device)
        for prediction, probability, target in images:
            self._count(table, prediction.to(torch.int64), probability, target.to(torch.int64))
        if is_dynamo_compiling():  # no graph holds a lock
            self._add_table(table)
        else:
            with self._lock:
                self._add_table(table)

    def _add_table(self, table: Tensor) -> None:
        if not self._placed:
            with torch.inference_mode(False):
                self._table = self._table.to(table.device)
            self._placed = True
        self._table += table.to(self._table.device)

    def _count(self, table: Tensor, prediction: Tensor, sure: Tensor, target: Tensor) -> None:
        """Adds an image to a table: (H, W) each."""
        sure = sure.to(torch.float64)
        known = (sure >= 0) & (sure <= 1)  # not NaN
        for labels in (prediction, target):
            known &= (labels >= 0) & (labels < self.num_classes)
        sure = torch.where(known, sure, 0)
        bins = self._bins_of(sure).clamp_(0, self.num_bins - 1)
        bins = torch.where(known, bins, self.num_bins)
        bins = bins.masked_fill_(target == self.ignore_index, self.num_bins + 1).flatten()
        for column, values in enumerate(
            (torch.ones_like(target), prediction == target, (sure * _ONE).round())
        ):
            table[:, column].index_add_(0, bins, values.flatten().to(torch.int64))

    def _bins_of(self, sure: Tensor) -> Tensor:
        """The bin of each probability: ``edges[bin] < sure <= edges[bin + 1]``; -1 for 0."""
        # A tensor, as CUDA would multiply by the inverse of a Python number, which rounds twice.
        divisor = sure.new_full((), self.num_bins)
        above = (sure * divisor).ceil_()
        # Rounding may have moved the product to the next edge or past its own.
        above += sure > above / divisor
        above -= (sure <= (above - 1) / divisor).to(sure.dtype)
        return above.to(torch.int64) - 1
