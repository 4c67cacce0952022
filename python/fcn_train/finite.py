"""Checks that a network's scores are finite: one that diverged still returns labels."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class NotFiniteError(Exception):
    """A network gives scores of an image that are not finite, whose labels mean nothing."""


class FiniteWatch:
    """Looks at all scores that the heads of ``net`` give in its block, and waits for nothing.

    Of a module without heads it sees nothing.
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
