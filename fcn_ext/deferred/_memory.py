"""The full tensor, which is computed at most once, and the steps to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout
from fcn_ext.deferred._snapshot import Origin, Snapshot, outside_modes

__all__ = ["Memory", "Step", "after", "step_of"]

Step = Callable[[Tensor], Tensor]
"""A function from one ordinary tensor to the next."""


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


class Planes:
    """Some images and classes of a tensor that is not computed otherwise, each a map, while they
    are few: else it is better to compute all.

    Args:
        planes: the maps of one class of one image that the tensor has.
    """

    def __init__(self, planes: int) -> None:
        self._left = planes // 2
        self._maps: dict[tuple[range, range], Tensor] = {}

    def of(
        self, layout: Layout, planes: int, compute: Callable[[], Tensor | None]
    ) -> Tensor | None:
        """The map of a layout's images and classes, computed if it is not there yet, which takes
        about as long as computing so many planes; None if these are too many."""
        key = layout.ranges[IMAGES], layout.ranges[CLASSES]
        map = self._maps.get(key)
        if map is None and planes <= self._left:
            map = compute()
            if map is not None:
                self._maps[key] = map
                self._left -= planes
        return map

    def clear(self) -> None:
        self._maps.clear()


class Memory:
    """What a tensor and its views share: how to compute the tensor, and then the tensor itself.

    Args:
        compute: gives the tensor.
        layout: its layout.
        kind: the function of the logits that it is.
        snapshot: the scores behind it.
        is_resized: whether its elements are those of :meth:`Snapshot.resized`, to the bit, each of
            whose classes can be had alone.
    """

    def __init__(
        self,
        compute: Callable[[], Tensor],
        layout: Layout,
        kind: str,
        snapshot: Snapshot | None = None,
        *,
        is_resized: bool = False,
    ) -> None:
        self._pure: tuple[Callable[[], Tensor], Snapshot | None] | None = (compute, snapshot)
        self.layout, self._kind = layout, kind
        self.is_resized = is_resized
        self._full: Tensor | None = None
        self._lock = threading.Lock()
        self.origin: Origin | None = None if snapshot is None else snapshot.origin
        self.losses: dict[int, tuple[Tensor, Tensor]] = {}
        """The gradient that was computed with each loss, by the address of the loss's total
        weight."""
        self._planes: Planes | None = None
        self.changes = 0
        """How often the elements were, or may have been, changed in place."""
        self.is_shared = False
        """Whether ordinary views of it were given out, by which others may change it unseen."""

    @property
    def planes(self) -> Planes:
        if self._planes is None:
            self._planes = Planes(self.layout.sizes[IMAGES] * self.layout.sizes[CLASSES])
        return self._planes

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
                            full = snapshot.told.restored(full, self._kind, self.layout, snapshot)
                        self._full = full
                    self._pure = None
                    if self._planes is not None:
                        self._planes.clear()
        assert self._full is not None
        return self._full
