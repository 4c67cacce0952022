"""How a deferred tensor is computed from coarse scores, or from memory that it shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout
from fcn_ext.deferred._memory import Memory, Step, after
from fcn_ext.deferred._snapshot import Snapshot, outside_modes
from fcn_ext.deferred._strides import dense, laid_out
from fcn_ext.deferred._told import elements

__all__ = ["Logits", "Recipe"]

_SOFTMAX = ("softmax", "log_softmax")
_FEWEST = 8
"""The fewest classes of which the probability of one is computed faster than those of all."""


class Recipe:
    """How the elements of a deferred tensor are computed from a memory that it may share.

    Args:
        memory: that of the tensor, or of the tensor that it is a view of.
        views: the steps from that tensor to this one.
        layout: which axes of the map its dimensions run over.
        kind: the function of the scores at full size, such as "logits".
        twin: a meta tensor with its shape, strides and dtype.
        device: its device.
    """

    def __init__(
        self,
        memory: Memory,
        views: tuple[Step, ...],
        layout: Layout,
        kind: str,
        twin: Tensor,
        device: torch.device,
    ) -> None:
        self.memory = memory
        self.views = views
        self.layout = layout
        self.kind = kind
        self.twin = twin
        self.device = device
        self.replaced: Tensor | None = None
        """What replaced the tensor, if its shape or its memory was changed."""

    @property
    def is_pure(self) -> bool:
        """Whether nothing has been computed, so that nothing can have changed."""
        return self.memory.pure is not None and self.replaced is None

    @property
    def has_some_classes(self) -> bool:
        """Whether it has some classes only of the tensor that it is a view of."""
        return self._has_other_classes(self.layout)

    @property
    def is_part_of_softmax(self) -> bool:
        """Whether it has some classes of a softmax, which depend on the scores of all."""
        return self.kind in _SOFTMAX and self.has_some_classes

    def _has_other_classes(self, layout: Layout) -> bool:
        return layout.ranges[CLASSES] != self.memory.layout.ranges[CLASSES]

    @property
    def compute(self) -> Callable[[], Tensor] | None:
        """How to compute it, whatever becomes of the tensor; None once that is done."""
        pure = self.memory.pure
        return None if pure is None or self.replaced is not None else after(pure[0], self.views)

    def read(self, tensor: Tensor) -> Tensor:
        """The ordinary tensor of a deferred one, or one of the same elements for who neither
        changes it nor keeps a view of it."""
        return self.ordinary()

    def ordinary(self) -> Tensor:
        if self.replaced is not None:
            return self.replaced
        full = self.memory.tensor()
        if self.views:
            with torch.no_grad():
                for view in self.views:
                    full = view(full)
        return full

    def step(
        self,
        step: Step,
        twin: Tensor,
        layout: Layout,
        *,
        shared: bool = False,
        kind: str | None = None,
        device: torch.device | None = None,
    ) -> Recipe | None:
        """The recipe after one more step, which makes a view if ``shared``; None if this tensor is
        computed already."""
        pure = self.memory.pure
        if pure is None or self.replaced is not None:
            return None
        memory, views = self.memory, (*self.views, step)
        if not shared:
            if self.kind in _SOFTMAX and self._has_other_classes(layout):
                return None  # of a softmax with other classes, which kind and layout cannot say
            compute, snapshot = pure
            if snapshot is not None:
                # Computed in the dtype of the logits, so that results have their dtype and overflow
                # when they do. Probabilities are rounded at the end, not the scores before.
                dtype = twin.dtype if self.kind == "logits" else snapshot.dtype
                snapshot = snapshot.to(device or self.device, dtype)
            memory = Memory(
                self._computing(compute, step, twin), layout, kind or self.kind, snapshot
            )
            if kind is None and self.memory.is_resized:
                is_same = twin.dtype == self.twin.dtype and device in (None, self.device)
                memory.is_resized = is_same
            views = ()
        return type(self)(memory, views, layout, kind or self.kind, twin, device or self.device)

    def _computing(
        self, compute: Callable[[], Tensor], step: Step, twin: Tensor
    ) -> Callable[[], Tensor]:
        """``compute``, the views and one more step, whose result is as ``twin``."""
        return after(compute, (*self.views, step))


class Logits(Recipe):
    """The recipe of scores at full size, or of their ``softmax``, ``log_softmax`` or ``sigmoid``,
    as ``kind`` says."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The coarse scores, until the full tensor is computed."""
        pure = self.memory.pure
        return None if pure is None or self.replaced is not None else pure[1]

    def read(self, tensor: Tensor) -> Tensor:
        if not self.has_some_classes:
            return self.ordinary()
        twin = dense(self.twin)
        contiguous = torch.empty_like(twin, memory_format=torch.contiguous_format)
        # Without the gaps between its images, torch may take another memory format for it.
        is_another = twin.is_contiguous() and twin.stride() != contiguous.stride()
        part = None if is_another else self._part(tensor)
        if part is None or not self.is_pure:
            return self.ordinary()
        return laid_out(self.layout.from_full_map(part, twin.shape), twin)

    def _part(self, tensor: Tensor) -> Tensor | None:
        """A map of its part alone; None if all classes should be computed."""
        snapshot, layout, memory = self.snapshot, self.layout, self.memory
        if snapshot is None or not snapshot.is_finite():
            return None
        classes = memory.layout.sizes[CLASSES]
        if self.is_part_of_softmax:
            differentiated = tensor.requires_grad and torch.is_grad_enabled()
            # The gradient needs the probabilities of all classes.
            if differentiated or self.kind != "softmax" or layout.sizes[CLASSES] > 1:
                return None
            if not _FEWEST <= classes <= MOST_CLASSES:
                return None
            # One takes the exponentials of all, which is most of the work.
            planes, compute = classes // 2 * layout.sizes[IMAGES], self._probability
        elif memory.is_resized:
            planes, compute = layout.sizes[IMAGES] * layout.sizes[CLASSES], self._resized
        else:
            return None
        map = memory.planes.of(layout, planes, lambda: compute(snapshot))
        return None if map is None else layout.cropped(map)

    def _resized(self, snapshot: Snapshot) -> Tensor:
        """Its classes, with all rows and columns."""
        whole = self.layout.uncropped_map()
        with outside_modes(), torch.no_grad():
            return snapshot.told.restored(snapshot.resized(whole), self.kind, whole, snapshot)

    def _probability(self, snapshot: Snapshot) -> Tensor | None:
        """The probabilities (N, 1, H, W) of its one class."""
        classes = self.memory.layout.ranges[CLASSES]
        place = classes.index(self.layout.ranges[CLASSES][0])
        dtype = torch.uint8 if place < 2**8 else torch.int16
        of_all = self.layout.of(CLASSES, classes).uncropped_map()
        with outside_modes(), torch.no_grad():
            label = torch.full((1, 1, 1), place, dtype=dtype, device=self.device)
            labels = label.expand(self.layout.sizes[IMAGES], *snapshot.size)
            value = elements(snapshot.part(of_all), self.kind, labels)
            if value is None or not snapshot.told.tell_elements(self.kind, of_all, labels):
                return None
            return value.unsqueeze(1).to(self.twin.dtype)

    def _computing(
        self, compute: Callable[[], Tensor], step: Step, twin: Tensor
    ) -> Callable[[], Tensor]:
        whole = super()._computing(compute, step, twin)
        if not self.memory.is_resized or not self.has_some_classes:
            return whole
        snapshot, layout, before = self.snapshot, self.layout, self.twin

        def computed() -> Tensor:
            if snapshot is None or not snapshot.is_finite():
                return whole()
            map = layout.cropped(snapshot.resized(layout))
            part = laid_out(layout.from_full_map(map, before.shape), dense(before))
            return laid_out(step(part), twin)

        return computed
