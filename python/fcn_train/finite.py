"""Checks that a network's scores are finite: one that diverged still returns labels."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class NotFiniteError(Exception):
    """A network's scores of an image are not finite, so their labels mean nothing."""


class FiniteWatch:
    """Checks all scores of the heads of ``net`` in its block, without waiting for the device.

    It has no effect on a module without heads.
    """

    def __init__(self, net: nn.Module) -> None:
        self._heads: Any = getattr(net, "heads", {})
        self._hooks: list[RemovableHandle] = []
        self._seen: Tensor | None = None

    def __enter__(self) -> FiniteWatch:
        for head in self._heads.values():
            self._hooks.append(head.register_forward_hook(self._look))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _look(self, head: Any, inputs: Any, scores: Tensor) -> None:
        finite = scores.isfinite().all()
        self._seen = finite if self._seen is None else self._seen & finite

    def held(self) -> bool:
        """Whether all were finite; waits for the device."""
        return self._seen is None or bool(self._seen)
