"""How a deferred tensor is computed from coarse scores, or from memory that it shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._snapshot import Memory, Snapshot, Step, after

__all__ = ["Logits", "Recipe"]


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
    def compute(self) -> Callable[[], Tensor] | None:
        """How to compute it, whatever becomes of the tensor; None once that is done."""
        pure = self.memory.pure
        return None if pure is None or self.replaced is not None else after(pure[0], self.views)

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
            compute, snapshot = pure
            if snapshot is not None:
                # Computed in the dtype of the logits, so that results have their dtype and overflow
                # when they do. Probabilities are rounded at the end, not the scores before.
                dtype = twin.dtype if self.kind == "logits" else snapshot.dtype
                snapshot = snapshot.to(device or self.device, dtype)
            memory = Memory(after(compute, views), layout, kind or self.kind, snapshot)
            views = ()
        return type(self)(memory, views, layout, kind or self.kind, twin, device or self.device)


class Logits(Recipe):
    """The recipe of scores at full size, or of their ``softmax``, ``log_softmax`` or ``sigmoid``,
    as ``kind`` says."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The coarse scores, until the full tensor is computed."""
        pure = self.memory.pure
        return None if pure is None or self.replaced is not None else pure[1]

    def scores(self, snapshot: Snapshot) -> Tensor:
        """The scores of this tensor's images."""
        return snapshot.part(self.layout).scores
