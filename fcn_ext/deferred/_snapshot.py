"""Coarse scores as they were when upsampling was deferred."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fcn_ext.deferred._layout import COLUMNS, ROWS, Layout
from fcn_ext.deferred._told import Told
from fcn_ext.geometry import Resize
from fcn_ext.ops._autograd import _below_autograd
from fcn_ext.ops._observers import _is_batched, _transforms_active
from fcn_ext.prediction._rows import Span, full_rows

__all__ = ["Origin", "Snapshot", "is_batched", "outside_modes"]

aten = torch.ops.aten
_interpolate_op = torch.ops.fcn_ext.interpolate.default


class Origin:
    """Identifies the scores that gradients belong to."""

    def __init__(self, align_corners: bool) -> None:
        self.align_corners = align_corners


class Snapshot:
    """Coarse scores (N, C, h, w) at the moment they were deferred, and the size they go to.

    A copy, since in the plain code the upsampled tensor does not change when the scores do later.
    """

    def __init__(
        self,
        scores: Tensor | None,
        size: tuple[int, int],
        geometry: Resize,
        origin: Origin | None = None,
    ) -> None:
        self._scores = scores
        self.size = size
        self.geometry = geometry
        self.origin = Origin(geometry.align_corners) if origin is None else origin
        self.told = Told()
        self._finite: bool | None = None

    @property
    def scores(self) -> Tensor:
        assert self._scores is not None
        return self._scores

    @property
    def numbers(self) -> tuple[int, ...]:
        """The geometry as the operators take it."""
        return self.geometry.numbers

    @property
    def dtype(self) -> torch.dtype:
        return self.scores.dtype

    @property
    def device(self) -> torch.device:
        return self.scores.device

    def of_scores(self, scores: Tensor) -> Snapshot:
        """Other scores with the same geometry."""
        return Snapshot(scores, self.size, self.geometry)

    in_tiles = False
    """Whether predictions are made some rows at a time."""

    @property
    def is_larger(self) -> bool:
        """Whether the full size is that of the scores or larger, along both axes."""
        return True

    def part(self, layout: Layout) -> Snapshot:
        """The images, classes, rows and columns of ``layout``."""
        scores = layout.part(self.scores)
        if scores is self.scores and not layout.is_crop:
            return self
        found = Snapshot(scores, (layout.sizes[ROWS], layout.sizes[COLUMNS]), self.crop(layout))
        found._finite = True if self._finite else None
        return found

    def crop(self, layout: Layout) -> Resize:
        """The geometry of the rows and columns of ``layout``."""
        if not layout.is_crop:
            return self.geometry
        offset = layout.ranges[ROWS].start, layout.ranges[COLUMNS].start
        return Resize(self.geometry.align_corners, self.size, offset)

    def affords(self, layout: Layout) -> bool:
        """Whether one more prediction is made from the scores, and not from the full tensor."""
        return True

    def window(self, rows: Span, columns: Span) -> Tensor:
        """Some rows and columns at full size."""
        return full_rows(self.scores, rows, self.size, self.geometry, columns)

    def tiles(self) -> Iterable[tuple[Span, Snapshot]]:
        """Rows at full size that predictions are made of at a time, and the scores behind them."""
        return [(Span(0, self.size[0]), self)]

    def to(self, device: torch.device, dtype: torch.dtype) -> Snapshot:
        if device == self.scores.device and dtype == self.scores.dtype:
            return self
        with outside_modes():
            scores = self.scores.to(device, dtype)
        return Snapshot(scores, self.size, self.geometry, self.origin)

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

    def resized(self, layout: Layout) -> Tensor:
        """The logits at full size of a layout's images and classes, with the bits that they have
        among all. Those of torch's kernel depend on which it sees."""
        scores = self._nodes()
        if self._resizes_by_torch():
            with torch.autocast(scores.device.type, enabled=False):
                return layout.part(
                    aten.upsample_bilinear2d.default(scores, self.size, self.geometry.align_corners)
                )
        with _below_autograd():
            full: Tensor = _interpolate_op(
                layout.part(scores), *self.size, self.geometry.align_corners
            )
        return full

    def _nodes(self) -> Tensor:
        """The scores, to be read once."""
        return self.scores

    def _resizes_by_torch(self) -> bool:
        return not self.is_finite()


def is_batched(grad: Tensor) -> bool:
    """Whether a gradient is batched (``is_grads_batched``), so that its elements cannot be read."""
    return _is_batched(grad) or _transforms_active()


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
