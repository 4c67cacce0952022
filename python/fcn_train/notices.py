"""Notices among processes, in the launcher's store: who has ended, who was told to stop.

Collective operations wait in C++, where signals are not handled, and for all processes. Notices can
be read from Python at any time, so they serve while one process works and the others wait, and when
one disappears.
"""

from __future__ import annotations

import time
from typing import Any

from fcn_train.errors import Elsewhere

LOOK_EVERY = 0.05  # seconds between two looks while waiting
GRACE = 1.0  # seconds for which the others let the first process report what all have met


class Board:
    """The notices of ``size`` processes in ``store``, seen by the one of number ``rank``."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._size = size

    def over(self) -> tuple[int, int] | None:
        """The process that ended the work, and the exit code; None while the work goes on."""
        if not self._store.check(["over"]):
            return None
        rank, code = self._store.get("over").decode().split()
        return int(rank), int(code)

    def end(self, code: int, patience: float) -> tuple[int, int]:
        """Announce that the work ends, unless another has; returns which process ended it, and the
        code.

        Errors that all processes meet are reported by the first: the others wait for it for
        ``patience`` seconds.
        """
        if self._rank:
            self.wait_for_end(patience)
        said = self._store.compare_set("over", "", f"{self._rank} {code}").decode().split()
        return int(said[0]), int(said[1])

    def wait_for_end(self, patience: float) -> bool:
        """Whether the work ends within ``patience`` seconds."""
        until = time.monotonic() + patience
        while self.over() is None:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_EVERY)
        return True

    def say_goodbye(self, patience: float) -> None:
        """Announce that this process leaves; the first one waits up to ``patience`` seconds for all
        others to do so."""
        until = time.monotonic() + patience
        gone = self._store.add("gone", 1)
        while self._rank == 0 and gone < self._size and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
            gone = self._store.add("gone", 0)

    def check(self) -> None:
        """Raises Elsewhere once another process has ended the work."""
        over = self.over()
        if over is not None and over[0] != self._rank:
            raise Elsewhere(over[1])

    def post(self, notice: str) -> None:
        self._store.set(notice, "yes")

    def seen(self, notice: str) -> bool:
        found: bool = self._store.check([notice])
        return found

    def wait_for(self, notice: str) -> None:
        """Wait as long as it takes. Raises Elsewhere when the work ends before."""
        while not self.seen(notice):
            self.check()
            time.sleep(LOOK_EVERY)

    def gather(self, what: str) -> None:
        """Wait as long as it takes until all have come here. Raises Elsewhere as ``wait_for``."""
        self._store.add(what, 1)
        while self._store.add(what, 0) < self._size:
            self.check()
            time.sleep(LOOK_EVERY)
