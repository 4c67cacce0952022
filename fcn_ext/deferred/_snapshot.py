"""Coarse scores as they were, and the full tensor, which is computed from them at most once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fcn_ext.deferred._layout import Layout, slice_of
from fcn_ext.deferred._told import Told
from fcn_ext.geometry import Resize
from fcn_ext.ops._autograd import _below_autograd, _is_batched, _transforms_active
from fcn_ext.prediction._rows import Span, full_rows

__all__ = [
    "MOST_SPENT",
    "Memory",
    "Snapshot",
    "Step",
    "after",
    "is_batched",
    "is_channels_last",
    "laid_out",
    "outside_modes",
    "resized_twin",
    "step_of",
]

aten = torch.ops.aten
_interpolate_op = torch.ops.fcn_ext.interpolate.default

MOST_SPENT = 16
"""Predictions of crops, of all images, that are made from scores."""

Step = Callable[[Tensor], Tensor]
"""A function from one ordinary tensor to the next."""


def is_channels_last(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether torch resizes a map of these strides to a channels_last one: the strides grow in the
    order of channels, columns, rows and images. If sizes of 1 leave both open, it does not."""
    least = 0
    for axis in (1, 3, 2, 0):
        if stride[axis] < least or stride[1] == 0 or (axis == 0 and least == stride[1]):
            return False
        least = stride[axis] * shape[axis]
    return True


@lru_cache(maxsize=256)
def resized_twin(
    shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, size: tuple[int, int]
) -> Tensor:
    """A meta tensor with the shape and strides that torch gives a map resized to ``size``."""
    last = is_channels_last(shape, stride)
    return torch.empty(
        (*shape[:2], *size),
        dtype=dtype,
        device="meta",
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def is_batched(grad: Tensor) -> bool:
    """Whether a gradient is batched (``is_grads_batched``), so that its elements cannot be read."""
    return _is_batched(grad) or _transforms_active()


def laid_out(tensor: Tensor, twin: Tensor) -> Tensor:
    """``tensor`` with the strides of its twin."""
    if tensor.stride() == twin.stride():
        return tensor
    return tensor.new_empty_strided(twin.shape, twin.stride()).copy_(tensor)


class Snapshot:
    """Coarse scores (N, C, h, w) at the moment they were deferred, and the size they go to.

    A copy, since in the plain code the upsampled tensor does not change when the scores do later.
    """

    def __init__(
        self,
        scores: Tensor | None,
        size: tuple[int, int],
        align_corners: bool,
        origin: object = None,
    ) -> None:
        self._scores = scores
        self.size = size
        self.align_corners = align_corners
        self.origin = object() if origin is None else origin
        """Identifies the scores that gradients belong to."""
        self.told = Told()
        self._finite: bool | None = None
        self._spent = 0.0

    @property
    def scores(self) -> Tensor:
        assert self._scores is not None
        return self._scores

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.scores.shape[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The geometry as the operators take it."""
        return (int(self.align_corners),)

    @property
    def dtype(self) -> torch.dtype:
        return self.scores.dtype

    in_tiles = False
    """Whether predictions are made some rows at a time."""

    @property
    def is_larger(self) -> bool:
        """Whether the full size is that of the scores or larger, along both axes."""
        return True

    def part(self, layout: Layout) -> Snapshot:
        """The same for the images of ``layout``."""
        if len(layout.images) == self.scores.shape[0]:
            return self
        return Snapshot(self.scores[slice_of(layout.images)], self.size, self.align_corners)

    def affords(self, layout: Layout) -> bool:
        """Whether a prediction is made from the scores. One of a crop takes the time of one of the
        whole map; after many of them, the full tensor takes less."""
        if layout.is_crop(self.size):
            self._spent += len(layout.images) / self.images
        return self._spent <= MOST_SPENT

    def rows(self, rows: Span) -> Tensor:
        """Some rows at full size."""
        return full_rows(self.scores, rows, self.size, Resize(bool(self.align_corners)))

    def tiles(self) -> Iterable[tuple[Span, Snapshot]]:
        """Rows at full size that predictions are made of at a time, and the scores behind them."""
        return [(Span(0, self.size[0]), self)]

    def to(self, device: torch.device, dtype: torch.dtype) -> Snapshot:
        if device == self.scores.device and dtype == self.scores.dtype:
            return self
        with outside_modes():
            scores = self.scores.to(device, dtype)
        return Snapshot(scores, self.size, self.align_corners, self.origin)

    def is_finite(self) -> bool:
        """Whether all scores are finite: in torch infinities count even with a weight of zero, here
        they do not. On CUDA this is assumed, since checking would wait for the device."""
        if self._finite is None:
            if self.scores.is_cpu:
                dtype = torch.float64 if self.scores.dtype == torch.float64 else torch.float32
                self._finite = math.isfinite(self.scores.sum(dtype=dtype).item())
            else:
                self._finite = True
        return self._finite

    def logits(self, twin: Tensor) -> Tensor:
        """The full tensor, with the strides of ``twin``."""
        return laid_out(self._full(), twin)

    def _full(self) -> Tensor:
        return self._resized_from(self.scores, by_torch=not self.is_finite())

    def _resized_from(self, scores: Tensor, *, by_torch: bool) -> Tensor:
        full: Tensor
        if by_torch:
            with torch.autocast(scores.device.type, enabled=False):
                full = aten.upsample_bilinear2d.default(scores, self.size, self.align_corners)
        else:
            with _below_autograd():
                full = _interpolate_op(scores, *self.size, self.align_corners)
        return full


class Memory:
    """What a tensor and its views share: how to compute the tensor, and then the tensor itself."""

    def __init__(
        self,
        compute: Callable[[], Tensor],
        layout: Layout,
        kind: str,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._pure: tuple[Callable[[], Tensor], Snapshot | None] | None = (compute, snapshot)
        self._layout, self._kind = layout, kind
        self._full: Tensor | None = None
        self._lock = threading.Lock()
        self.origin = None if snapshot is None else snapshot.origin
        self.losses: dict[int, tuple[Tensor, Tensor]] = {}
        """The gradient that was computed with each loss, by the address of the loss's total
        weight."""
        self.changes = 0
        """How often the elements were, or may have been, changed in place."""

    @property
    def pure(self) -> tuple[Callable[[], Tensor], Snapshot | None] | None:
        """How to compute the tensor, and from which scores; None once it is computed, since its
        elements may have changed."""
        return self._pure

    def tensor(self) -> Tensor:
        """The ordinary tensor, without autograd, which sees only the deferred one."""
        if self._pure is not None:
            with self._lock:
                if self._pure is not None:
                    compute, snapshot = self._pure
                    with outside_modes(), torch.no_grad():
                        full = compute()
                        if snapshot is not None:
                            full = snapshot.told.restored(full, self._kind, self._layout, snapshot)
                        self._full = full
                    self._pure = None
        assert self._full is not None
        return self._full


@contextmanager
def outside_modes() -> Iterator[None]:
    """Outside of modes that see all operators, such as that of fake tensors, and of inference mode,
    whose tensors cannot be changed in place elsewhere."""
    seen = torch._C._len_torch_dispatch_stack() > 0
    inference = torch.is_inference_mode_enabled()
    with (
        _disable_current_modes() if seen else nullcontext(),
        torch.inference_mode(False) if inference else nullcontext(),
    ):
        yield


def step_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """A call of torch as a function of its first argument."""
    return lambda tensor: func(tensor, *args, **kwargs)


def after(compute: Callable[[], Tensor], steps: tuple[Step, ...]) -> Callable[[], Tensor]:
    """``compute`` and then ``steps``."""

    def computed() -> Tensor:
        tensor = compute()
        for step in steps:
            tensor = step(tensor)
        return tensor

    return computed
