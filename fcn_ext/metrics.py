"""The paper's four scores from one confusion matrix, accumulated over a whole data set.

With ``n_ij`` pixels of class i predicted as j, ``t_i = sum_j n_ij`` and ``p_i = sum_j n_ji``
(Long et al., section 5):

    pixel accuracy            sum_i n_ii / sum_i t_i
    mean accuracy             mean_i n_ii / t_i
    mean IU                   mean_i n_ii / (t_i + p_i - n_ii)
    frequency-weighted IU     sum_i t_i IU_i / sum_k t_k

Classes without a pixel in the ground truth are the point where implementations differ:

* ``mean_accuracy`` leaves them out: their accuracy is undefined.
* ``mean_iu`` follows the reference implementation of the paper: a class neither present nor
  predicted is left out (0 / 0), a class predicted though absent counts as IU 0.
* ``mean_iu_present`` takes the mean over the classes present in the ground truth, which is how
  the paper scores SIFT Flow.

Void pixels (``ignore_index``) are in no row and in no column. Means over nothing are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext import ops
from fcn_ext._arguments import integer
from fcn_ext.ops import _common

__all__ = ["ConfusionMatrix", "Scores", "scores_from_matrix"]


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix, in [0, 1] or NaN where undefined."""

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    """Mean over classes present or predicted; absent but predicted counts as 0."""
    mean_iu_present: float
    """Mean over classes present in the ground truth."""
    frequency_weighted_iu: float
    class_accuracy: npt.NDArray[np.float64]
    """(num_classes,); NaN for classes absent from the ground truth."""
    class_iu: npt.NDArray[np.float64]
    """(num_classes,); NaN for classes neither present nor predicted."""
    num_pixels: int
    """Counted pixels: void and invalid ones excluded."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, NaN as None, for JSON."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        return {
            "pixel_accuracy": plain(self.pixel_accuracy),
            "mean_accuracy": plain(self.mean_accuracy),
            "mean_iu": plain(self.mean_iu),
            "mean_iu_present": plain(self.mean_iu_present),
            "frequency_weighted_iu": plain(self.frequency_weighted_iu),
            "class_accuracy": [plain(value) for value in self.class_accuracy],
            "class_iu": [plain(value) for value in self.class_iu],
            "num_pixels": self.num_pixels,
        }


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def scores_from_matrix(matrix: Tensor | npt.NDArray[np.integer[Any]]) -> Scores:
    """The scores of a confusion matrix (num_classes, num_classes), rows = target.

    Raises:
        ValueError: ``matrix`` is not a square of non-negative integers.
    """
    counts = matrix.detach().cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"matrix must be square (num_classes, num_classes), got {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"matrix must hold counts, integers >= 0, got {counts.dtype} values")
    if counts.size and counts.min() < 0:
        raise ValueError(f"matrix must hold counts, integers >= 0, got {counts.min()}")
    hit = np.diag(counts).astype(np.float64)
    target = counts.sum(axis=1).astype(np.float64)
    union = target + counts.sum(axis=0) - hit
    total = target.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = hit / target
        iu = hit / union
        present = target > 0
        weighted = (target[present] / total * iu[present]).sum() if total else float("nan")
        return Scores(
            pixel_accuracy=float(hit.sum() / total) if total else float("nan"),
            mean_accuracy=_mean(accuracy[present]),
            mean_iu=_mean(iu[union > 0]),
            mean_iu_present=_mean(iu[present]),
            frequency_weighted_iu=float(weighted),
            class_accuracy=accuracy,
            class_iu=iu,
            num_pixels=int(counts.sum()),
        )


class ConfusionMatrix:
    """Confusion counts accumulated over batches, on the device that the batches are on.

    Nothing but the matrix is kept, and on CUDA no update waits for the device. Labels out of
    range are noticed when the scores are asked for.

        matrix = ConfusionMatrix(num_classes=21)
        for images, target in loader:
            matrix.update(model(images), target)
        print(matrix.compute().mean_iu)

    Args:
        num_classes: from 1 to 32768.
        ignore_index: target value to skip.
        device: where the counts live; default the device of the first update.
        class_names: num_classes names, for whoever prints the scores.

    Raises:
        TypeError: ``num_classes`` or ``ignore_index`` is not an integer.
        ValueError: ``num_classes`` is out of range, or ``class_names`` is not as long.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        device: torch.device | str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        num_classes = integer(num_classes, "num_classes")
        if not 1 <= num_classes <= 32768:
            raise ValueError(f"num_classes must be in [1, 32768], got {num_classes}")
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"class_names must have num_classes = {num_classes} names, got {len(class_names)}"
            )
        self.num_classes = num_classes
        self.ignore_index = integer(ignore_index, "ignore_index")
        self.class_names = tuple(class_names) if class_names is not None else None
        self._matrix: Tensor | None = None
        self._invalid: Tensor | None = None
        if device is not None:
            self._allocate(torch.device(device))

    def _allocate(self, device: torch.device) -> tuple[Tensor, Tensor]:
        shape = (self.num_classes, self.num_classes)
        # A first update in inference mode must not leave counts that `reset` may not touch.
        with torch.inference_mode(False):
            self._matrix = torch.zeros(shape, dtype=torch.int64, device=device)
            self._invalid = torch.zeros((), dtype=torch.int64, device=device)
        return self._matrix, self._invalid

    @property
    def matrix(self) -> Tensor:
        """The counts so far, int64 (num_classes, num_classes), rows = target."""
        return self._allocate(torch.device("cpu"))[0] if self._matrix is None else self._matrix

    @property
    def invalid(self) -> Tensor:
        """Pixels so far whose label was out of range, int64 ()."""
        return self._allocate(torch.device("cpu"))[1] if self._invalid is None else self._invalid

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch: labels (N, H, W) or logits (N, C, H, W), and target (N, H, W).

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.confusion_matrix`.
        """
        ops.confusion_matrix(prediction, target, self.num_classes, **self._counted_on(target))

    @torch.no_grad()
    def update_upsampled(
        self,
        scores: Tensor,
        target: Tensor,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | tuple[int, int] = 0,
    ) -> None:
        """Adds a batch of coarse scores (N, num_classes, h, w) as if upsampled to the target.

        As ``update(ops.upsample(scores, stride, ...), target)``, but nothing of the size of the
        target is stored.

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.upsample_confusion_matrix`.
        """
        ops.upsample_confusion_matrix(
            scores,
            target,
            stride,
            kernel_size=kernel_size,
            offset=offset,
            **self._counted_on(target),
        )

    @torch.no_grad()
    def update_interpolated(
        self, scores: Tensor, target: Tensor, *, align_corners: bool = False
    ) -> None:
        """Adds a batch of coarse scores (N, num_classes, h, w) as if interpolated to the target.

        As ``update(ops.interpolate(scores, target.shape[1:], ...), target)``, but nothing of the
        size of the target is stored.

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.interpolate_confusion_matrix`.
        """
        ops.interpolate_confusion_matrix(
            scores, target, align_corners=align_corners, **self._counted_on(target)
        )

    def _counted_on(self, target: Tensor) -> dict[str, Any]:
        """The arguments of the operators that count, on the device of the first target."""
        if self._matrix is None or self._invalid is None:
            self._allocate(_common.is_tensor(target, "target").device)
        return {"ignore_index": self.ignore_index, "out": self._matrix, "invalid": self._invalid}

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sums the counts over the processes of a group: integers, so exactly.

        Every process must have been given its own share of the data, none of it twice. Without an
        initialised process group nothing is done.
        """
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.matrix, group=group)
            dist.all_reduce(self.invalid, group=group)

    def compute(self, *, on_invalid: str = "raise") -> Scores:
        """The scores of all batches so far. Waits for the device.

        Args:
            on_invalid: "raise", or "drop" to score without the pixels out of range.

        Raises:
            ValueError: labels other than ``ignore_index`` were outside ``[0, num_classes)``.
        """
        if on_invalid not in ("raise", "drop"):
            raise ValueError(f"on_invalid must be 'raise' or 'drop', got {on_invalid!r}")
        invalid = int(self.invalid)
        if invalid and on_invalid == "raise":
            raise ValueError(
                f"labels must be in [0, {self.num_classes}) or, in the target, ignore_index = "
                f"{self.ignore_index}, got {invalid} pixels that are not"
            )
        return scores_from_matrix(self.matrix)

    def reset(self) -> None:
        """Forgets all batches."""
        for counts in (self._matrix, self._invalid):
            if counts is not None:
                counts.zero_()
