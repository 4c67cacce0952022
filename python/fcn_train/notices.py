"""Notices among processes, in the launcher's store: who has ended, who was told to stop.

Collective operations wait in C++, where no signal is seen, and for all processes. Notices are
looked at from Python, whenever somebody likes, so they serve where one process works while others
wait, and where one goes away.
"""

from __future__ import annotations

import time
from typing import Any

from fcn_train.errors import Elsewhere

LOOK_EVERY = 0.05  # seconds between two looks of somebody who waits
GRACE = 1.0  # seconds in which the first process takes the word, where all have the same to say


class Board:
    """The notices of ``size`` processes in ``store``, seen by the one of number ``rank``."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._size = size

    def over(self) -> tuple[int, int] | None:
        """Who has ended the work, and with which exit code; None while it goes on."""
        if not self._store.check(["over"]):
            return None
        rank, code = self._store.get("over").decode().split()
        return int(rank), int(code)

    def end(self, code: int, patience: float) -> tuple[int, int]:
        """Say that the work ends, unless somebody has: gives who ended it, and with which code.

        What goes wrong on all processes alike is told by the first: the others let it have the
        word for ``patience`` seconds.
        """
        if self._rank:
            self.wait_for_end(patience)
        said = self._store.compare_set("over", "", f"{self._rank} {code}").decode().split()
        return int(said[0]), int(said[1])

    def wait_for_end(self, patience: float) -> bool:
        """Whether the work is over within ``patience`` seconds."""
        until = time.monotonic() + patience
        while self.over() is None:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_EVERY)
        return True

    def say_goodbye(self, patience: float) -> None:
        """Tell the others that this process leaves; the first one waits ``patience`` seconds until
        all others have told so."""
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
