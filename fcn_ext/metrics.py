"""The paper's four scores from one confusion matrix, accumulated over a whole data set.

With ``n_ij`` pixels of class i predicted as j, ``t_i = sum_j n_ij`` and ``p_i = sum_j n_ji``
(Long et al., section 5):

    pixel accuracy            sum_i n_ii / sum_i t_i
    mean accuracy             mean_i n_ii / t_i
    mean IU                   mean_i n_ii / (t_i + p_i - n_ii)
    frequency-weighted IU     sum_i t_i IU_i / sum_k t_k

Implementations differ in how they treat classes without a pixel in the ground truth:

* ``mean_accuracy`` leaves them out: their accuracy is undefined.
* ``mean_iu`` follows the reference implementation of the paper: a class neither present nor
  predicted is left out (0 / 0), a class predicted though absent counts as IU 0.
* ``mean_iu_present`` takes the mean over the classes present in the ground truth, which is how
  the paper scores SIFT Flow.

Void pixels (``ignore_index``) are in no row and in no column. Means over nothing are NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import _arguments, ops
from fcn_ext._arguments import integer, invalid_labels, one_of, with_values
from fcn_ext._scores import Scores, scores_from_matrix
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _common

__all__ = ["ConfusionMatrix", "Scores", "scores_from_matrix"]


class _Counts(NamedTuple):
    matrix: Tensor  # int64 (num_classes, num_classes), rows = target
    invalid: Tensor  # int64 ()

    def to(self, device: torch.device) -> _Counts:
        """A copy on ``device``."""
        # Counts made in inference mode could not be changed outside of it.
        with torch.inference_mode(False):
            return _Counts(*(counts.to(device, copy=True) for counts in self))


class ConfusionMatrix:
    """Confusion counts accumulated over batches, on the device that the batches are on.

    Nothing but the matrix is kept, and on CUDA no update waits for the device. Labels out of
    range are noticed when the scores are asked for.

        matrix = ConfusionMatrix(num_classes=21)
        for images, target in loader:
            matrix.update(model(images), target)
        print(matrix.compute().mean_iu)

    An update that raises leaves the counts as they were. Threads may share a matrix: updates take
    turns, and all methods see only whole updates (except inside functions compiled by
    ``torch.compile``). A copy or a pickle holds the counts at that moment.

    Args:
        num_classes: from 1 to 32768.
        ignore_index: target value to skip.
        device: where the counts live; default the device of the first update.
        class_names: num_classes names, for whoever prints the scores.

    Raises:
        TypeError: ``num_classes`` or ``ignore_index`` is not an integer, ``class_names`` is not a
            list, or ``device`` not a device.
        ValueError: ``num_classes`` or ``ignore_index`` is out of range, ``class_names`` has another
            length, or torch has no such ``device``.
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
        self.num_classes = num_classes
        self.ignore_index = integer(ignore_index, "ignore_index")
        self.class_names = _arguments.class_names(class_names, num_classes)
        # Reentrant: a signal handler may read the counts in the middle of an update.
        self._lock = threading.RLock()
        # None until a device is given or an update succeeds. Counts may come earlier, from other
        # processes; they are kept on the host.
        self._device: torch.device | None = None
        self._counts: _Counts | None = None
        if device is not None:
            self._counts = self._zeros(_arguments.device(device, "device"))
            self._device = self._counts.matrix.device

    def __repr__(self) -> str:
        device = None if self._device is None else str(self._device)
        return (
            f"ConfusionMatrix(num_classes={self.num_classes}, ignore_index={self.ignore_index}, "
            f"device={device!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {**self.__dict__}
            if self._counts is not None:
                state["_counts"] = self._counts.to(self._counts.matrix.device)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        if self._counts is not None:
            self._counts = self._counts.to(self._counts.matrix.device)

    @property
    def matrix(self) -> Tensor:
        """The counts so far, a copy: int64 (num_classes, num_classes), rows = target."""
        return self._read().matrix

    @property
    def invalid(self) -> Tensor:
        """Pixels so far whose label was out of range, a copy: int64 ()."""
        return self._read().invalid

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch: labels (N, H, W) or logits (N, C, H, W), and target (N, H, W).

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.confusion_matrix`.
        """
        self._add(ops.confusion_matrix, prediction, target, self.num_classes)

    def update_scores(self, scores: Tensor, target: Tensor, geometry: Geometry = Resize()) -> None:
        """Adds a batch of coarse scores as if taken to the size of the target.

        Counts what ``update(ops.argmax(scores, target.shape[1:], geometry), target)`` counts;
        neither the scores at full size nor the labels are stored.

            matrix.update_scores(scores, target, Deconvolution(8, offset=31))

        Args:
            scores: (N, num_classes, h, w), float32, float64, float16 or bfloat16.
            target: labels (N, H, W), uint8, int16, int32 or int64.
            geometry: how the scores reach (H, W), a :class:`~fcn_ext.geometry.Deconvolution` or a
                :class:`~fcn_ext.geometry.Resize`.

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.score_confusion_matrix`, or ``scores`` does
                not have ``num_classes`` channels.
        """
        _common.is_scored_batch(scores, target, self.num_classes, geometry)
        self._add(ops.score_confusion_matrix, scores, target, geometry)

    def update_upsampled(
        self,
        scores: Tensor,
        target: Tensor,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | Sequence[int] = 0,
    ) -> None:
        """``update_scores(scores, target, Deconvolution(stride, kernel_size, offset))``."""
        self.update_scores(scores, target, Deconvolution(stride, kernel_size, offset))

    def update_interpolated(
        self, scores: Tensor, target: Tensor, *, align_corners: bool = False
    ) -> None:
        """``update_scores(scores, target, Resize(align_corners))``."""
        self.update_scores(scores, target, Resize(align_corners))

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Adds up the counts of the processes of a group, exactly, as they are integers.

        Every process must have been given its own share of the data, none of it twice; a share may
        be empty. The counts are sent from the host if the group's backend can do that, otherwise
        from the current device of its kind (NCCL: the current CUDA device), wherever each process
        keeps its own. Without an initialized process group, or in a process outside ``group``,
        nothing is done.

        Raises:
            ValueError: ``num_classes`` is not the same in all processes.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_rank(group) < 0:
            return
        with self._lock:
            own = self._counts or self._zeros(torch.device("cpu"))
            # As one tensor, so that a failure cannot leave only one of the two summed.
            total = torch.cat([own.matrix.flatten(), own.invalid.view(1)])
            total = sum_over_processes(total, group, "num_classes", self.num_classes)
            own.matrix.copy_(total[:-1].view_as(own.matrix))
            own.invalid.copy_(total[-1])
            self._counts = own

    def compute(self, *, on_invalid: str = "raise") -> Scores:
        """The scores of all batches so far. Waits for the device.

        Args:
            on_invalid: "raise", or "drop" to score without the pixels out of range.

        Raises:
            ValueError: labels other than ``ignore_index`` were outside ``[0, num_classes)``.
        """
        one_of(on_invalid, ("raise", "drop"), "on_invalid")
        counts = self._read()
        with_values(counts.invalid, "labels")
        invalid = int(counts.invalid)
        if invalid and on_invalid == "raise":
            raise invalid_labels(invalid, self.num_classes, self.ignore_index)
        return scores_from_matrix(counts.matrix)

    def reset(self) -> None:
        """Forgets all batches, but not the device."""
        with self._lock:
            for counts in self._counts or ():
                counts.zero_()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """If an exception leaves this context, the counts are again those from before it. Other
        threads wait meanwhile.

            with matrix.all_or_nothing():
                for scores, target in images:
                    matrix.update(scores, target)
        """
        with self._lock:
            device, counts = self._device, self._counts
            before = None if counts is None else counts.to(counts.matrix.device)
            try:
                yield
            except BaseException:
                self._device, self._counts = device, before
                raise

    def _zeros(self, device: torch.device) -> _Counts:
        with torch.inference_mode(False):
            matrix = torch.zeros(
                self.num_classes, self.num_classes, dtype=torch.int64, device=device
            )
            return _Counts(matrix, matrix.new_zeros(()))

    def _read(self) -> _Counts:
        with self._lock:
            if self._counts is None:
                return self._zeros(torch.device("cpu"))
            return self._counts.to(self._counts.matrix.device)

    def _add(self, count: Callable[..., Tensor], *batch: Any) -> None:
        """Adds a batch by an operator that counts, ``count(prediction, target, ...)``."""
        if is_dynamo_compiling():  # a graph cannot hold a lock
            self._add_unlocked(count, batch)
        else:
            with self._lock:
                self._add_unlocked(count, batch)

    @torch.no_grad()
    def _add_unlocked(self, count: Callable[..., Tensor], batch: tuple[Any, ...]) -> None:
        counts, target = self._counts, batch[1]
        if counts is None or self._device is None:
            device = _common.is_tensor(target, "target").device
            counts = self._zeros(device) if counts is None else counts.to(device)
        elif getattr(target, "device", None) != counts.matrix.device:
            target = _common.is_tensor(target, "target")
            _common.on_same_device(target, "target", counts.matrix, "the counts")
        count(*batch, ignore_index=self.ignore_index, out=counts.matrix, invalid=counts.invalid)
        if self._device is None:
            self._counts, self._device = counts, counts.matrix.device


def sum_over_processes(
    counts: Tensor, group: dist.ProcessGroup | None, name: str, size: int
) -> Tensor:
    """The sum of all processes' ``counts``, a new tensor on a device of the group's; ValueError if
    ``size``, the argument ``name`` that their shape depends on, is not the same in all."""
    device = device_of(group, counts.device)
    # A backend would end the process, or add up what does not belong together.
    limits = torch.tensor([size, -size], device=device)
    dist.all_reduce(limits, op=dist.ReduceOp.MAX, group=group)
    most, negated_least = limits.tolist()
    least = -negated_least
    if most != least:
        raise ValueError(
            f"{name} must be the same in all processes, got {least} to {most}, here {size}"
        )
    total = counts.to(device, copy=True)
    dist.all_reduce(total, group=group)
    return total


def device_of(group: dist.ProcessGroup | None, own: torch.device) -> torch.device:
    """The device from which a group's backends send tensors: the host, or else one of their
    kind."""
    # Such as "cpu:gloo,cuda:nccl". The same for all processes, as none knows where the others
    # count.
    kinds = [backend.split(":")[0] for backend in dist.get_backend_config(group).split(",")]
    kind = "cpu" if "cpu" in kinds else kinds[0]
    return own if own.type == kind else torch.device(kind)
