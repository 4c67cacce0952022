"""Scores of a confusion matrix; the docstring of :mod:`fcn_ext.metrics` has the formulas."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fcn_ext._arguments import with_values
from fcn_ext._arrays import whole
from fcn_ext.ops import _common


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one confusion matrix, in [0, 1] or NaN where undefined.

    Two are equal if all their numbers are, NaN being equal to NaN. They cannot be hashed, as they
    hold arrays.
    """

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

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scores):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name), equal_nan=True)
            for field in fields(self)
        )

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
        TypeError: ``matrix`` is a tensor, but not an ordinary dense one.
        ValueError: ``matrix`` is not square, has other numbers than integers >= 0, is masked, is on
            the meta device, or has 2**63 pixels or more.
    """
    if isinstance(matrix, Tensor):
        matrix = with_values(_common.is_tensor(matrix, "matrix"), "matrix")
        if matrix.is_floating_point():  # NumPy lacks some of these dtypes
            kind = str(matrix.dtype).removeprefix("torch.")
            raise ValueError(f"matrix must hold counts, integers >= 0, got {kind} values")
        matrix = matrix.detach().cpu().numpy()
    counts = whole(matrix, "matrix", "give them a count with `matrix.filled(...)`")
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"matrix must be square (num_classes, num_classes), got {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"matrix must hold counts, integers >= 0, got {counts.dtype} values")
    if counts.size and counts.min() < 0:
        raise ValueError(f"matrix must hold counts, integers >= 0, got {counts.min()}")
    # In float64, where sums of counts do not wrap around.
    hit = np.diag(counts).astype(np.float64)
    target = counts.sum(axis=1, dtype=np.float64)
    union = target + counts.sum(axis=0, dtype=np.float64) - hit
    total = target.sum()
    if total >= 2**63:
        raise ValueError(f"matrix must hold fewer than 2**63 pixels, got {total:g}")
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
