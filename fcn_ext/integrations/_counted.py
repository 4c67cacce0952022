"""The base of the metrics of other libraries: counts from labels, logits or coarse scores."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext._arguments import with_values
from fcn_ext._arrays import data_and_mask, tensor_of, whole
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.ops import _common

ZERO_LABEL, REDUCED_VOID = 0, 255
_LABELS = (torch.uint8, torch.int16, torch.int32, torch.int64)


class Counted:
    """A metric that is computed from a confusion matrix.

    Attributes:
        counts: the matrix so far.
        reduce_labels: whether one is subtracted from labels, and 0 is void.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        reduce_labels: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        _common.flag(reduce_labels, "reduce_labels")
        self.counts = ConfusionMatrix(num_classes, ignore_index=ignore_index, device=device)
        self.reduce_labels = reduce_labels

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy, which counts on its own."""
        with self.counts.all_or_nothing():  # so that counts and a metric's own sums match
            return {**self.__dict__, "counts": copy.copy(self.counts)}

    def update(self, predictions: Any, references: Any, geometry: Geometry = Resize()) -> None:
        """Adds a batch; nothing is added if this raises.

        Args:
            predictions: labels (N, H, W), of any integer type; or floating-point scores (N, C, h,
                w), coarse ones or logits, which reach the size of the references as ``geometry``
                says but are not stored at that size. Tensors or arrays; or a list with one, (H, W)
                or (C, h, w), for each image, of any sizes.
            references: labels (N, H, W) of uint8, int16, int32 or int64, or a list of them, (H, W).
                Masked pixels of a masked array do not count.

        Raises:
            TypeError, ValueError: they do not match, or predictions are masked; see
                :meth:`ConfusionMatrix.update <fcn_ext.metrics.ConfusionMatrix.update>`.
        """
        with self.counts.all_or_nothing():
            for prediction, target in self._batches(predictions, references):
                self._count(prediction, target, geometry)

    def _batches(self, predictions: Any, references: Any) -> Iterator[tuple[Tensor, Tensor]]:
        void = REDUCED_VOID if self.reduce_labels else self.counts.ignore_index
        return batches(predictions, references, void)

    def _count(self, prediction: Tensor, target: Tensor, geometry: Geometry) -> None:
        labels = reduced(target) if self.reduce_labels else target
        if prediction.is_floating_point():
            self.counts.update_scores(prediction, labels, geometry)
        else:
            self.counts.update(prediction, labels)

    def reset(self) -> None:
        """Forgets all batches."""
        self.counts.reset()

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Sums the counts over processes: as :meth:`ConfusionMatrix.all_reduce
        <fcn_ext.metrics.ConfusionMatrix.all_reduce>`."""
        self.counts.all_reduce(group)

    def _matrix(self) -> Tensor:
        """The counts; raises ValueError if labels were out of range."""
        self.counts.compute()
        return self.counts.matrix


class Areas:
    """The pixels of each class, float64 (num_classes,): in the target, predicted, and both."""

    def __init__(self, matrix: Tensor) -> None:
        counts = square(matrix).cpu().numpy().astype(np.float64)
        self.target, self.predicted = counts.sum(1), counts.sum(0)
        self.both = np.diag(counts).copy()
        self.either = self.target + self.predicted - self.both

    def accuracy(self) -> np.ndarray:
        return share(self.both, self.target)

    def iou(self) -> np.ndarray:
        return share(self.both, self.either)

    def overall_accuracy(self) -> float:
        return float(share(self.both.sum(), self.target.sum()))


def square(matrix: Tensor) -> Tensor:
    """``matrix`` if it can be a confusion matrix."""
    if _common.is_tensor(matrix, "matrix").dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"matrix must be square (num_classes, num_classes), got {tuple(matrix.shape)}"
        )
    kind = matrix.dtype
    problem = None
    if kind.is_floating_point or kind.is_complex or kind == torch.bool:
        problem = f"{str(kind).removeprefix('torch.')} values"
    elif kind.is_signed and with_values(matrix, "matrix").numel() and (least := matrix.min()) < 0:
        problem = str(int(least))
    if problem is not None:
        raise ValueError(f"matrix must hold counts, integers >= 0, got {problem}")
    return with_values(matrix, "matrix")


def number_or_none(value: Any, name: str) -> float | None:
    return None if value is None else _common.number(value, name)


def share(part: Any, whole: Any) -> np.ndarray:
    """``part / whole``, NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(part, whole))


def mean(values: Any) -> float:
    """The mean of the values that are not NaN; NaN if there are none, without NumPy's warning."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def reduced(labels: Tensor) -> Tensor:
    """Labels minus one; 0 and 255 become 255, as ADE20K's background is void."""
    _common.is_label_map(labels, "target labels")  # int8, say, cannot hold 255
    void = (labels == ZERO_LABEL) | (labels == REDUCED_VOID)
    return torch.where(void, REDUCED_VOID, labels - 1)


def batches(predictions: Any, references: Any, void: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The arguments of :meth:`Counted.update` as batched tensors; ``void`` is the label for masked
    pixels."""
    for name, given in (("predictions", predictions), ("references", references)):
        if given is None:
            raise TypeError(f"{name} must be tensors, arrays or a list of them, got None")
    if isinstance(predictions, (list, tuple)) or isinstance(references, (list, tuple)):
        _check_as_many(predictions, references)
        for prediction, reference in zip(predictions, references, strict=True):
            yield _prediction(prediction)[None], _reference(reference, void)[None]
    else:
        prediction, reference = _prediction(predictions), _reference(references, void)
        if reference.dim() == 2:
            prediction, reference = prediction[None], reference[None]
        for name, tensor in (("predictions", prediction), ("references", reference)):
            if tensor.dim() == 0:
                raise ValueError(f"{name} must have images, got a single number")
        _check_as_many(prediction, reference)
        yield prediction, reference


def _check_as_many(predictions: Any, references: Any) -> None:
    if len(predictions) != len(references):
        raise ValueError(
            "predictions and references must have as many images, got "
            f"{len(predictions)} and {len(references)}"
        )


def _prediction(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        prediction = _common.is_tensor(values, "predictions")
    else:
        remedy = "give them a label, or mask the references instead"
        prediction = _tensor(whole(values, "predictions", remedy), "predictions")
    if prediction.is_complex():
        raise TypeError(f"predictions must hold labels or scores, got {prediction.dtype}")
    if prediction.is_floating_point() or prediction.dtype in _LABELS:
        return prediction
    return prediction.to(torch.int64)


def _reference(values: Any, void: int) -> Tensor:
    if isinstance(values, Tensor):
        return _common.is_tensor(values, "references")
    labels, mask = data_and_mask(values, "references")
    target = _tensor(labels, "references")
    if mask is None:
        return target
    return torch.where(torch.from_numpy(np.array(mask)), void, target.to(torch.int64))


def _tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold labels or scores, got an array of {array.dtype}")
    return tensor_of(array)
