"""How a deferred tensor follows from coarse scores, or from memory that it shares."""

from __future__ import annotations

import torch
from torch import Tensor

from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._snapshot import Memory, Snapshot, Step, after

__all__ = ["Logits", "Recipe"]


class Recipe:
    """How the elements of a deferred tensor follow from a memory that it may share.

    Args:
        memory: of the tensor, or of the one that it is a view of.
        views: from the one to the other.
        layout: which axes of the map its dimensions run over.
        kind: what it is of the scores at full size.
        twin: a meta tensor with its shape, strides and dtype.
        device: where it lies.
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
        """What has taken the tensor's place, if its shape or its memory was changed."""

    @property
    def is_pure(self) -> bool:
        """Whether nothing has been computed, so that nothing can have changed."""
        return self.memory.pure is not None and self.replaced is None

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
        """The recipe one step further, ``shared`` for a view; None where this one is computed."""
        pure = self.memory.pure
        if pure is None or self.replaced is not None:
            return None
        memory, views = self.memory, (*self.views, step)
        if not shared:
            compute, snapshot = pure
            if snapshot is not None:
                # In the dtype of the logits: what is taken of them has theirs, and overflows where
                # they do. Probabilities are rounded after they are made, not their scores.
                dtype = twin.dtype if self.kind == "logits" else snapshot.scores.dtype
                snapshot = snapshot.to(device or self.device, dtype)
            memory, views = Memory(after(compute, views), snapshot), ()
        return type(self)(memory, views, layout, kind or self.kind, twin, device or self.device)


class Logits(Recipe):
    """Of scores at full size, or of their ``softmax``, ``log_softmax`` or ``sigmoid``, as ``kind``
    says."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The coarse scores, while nothing has been computed of them."""
        pure = self.memory.pure
        return None if pure is None or self.replaced is not None else pure[1]

    def scores(self, snapshot: Snapshot) -> Tensor:
        """Those of the images at hand."""
        images = self.layout.images
        if len(images) == snapshot.scores.shape[0]:
            return snapshot.scores
        return snapshot.scores[images.start : images.stop]
