"""Stops several processes together."""

from __future__ import annotations

import time

from fcn_train.errors import LostProcess
from fcn_train.processes import LAUNCHER_GONE, Processes
from fcn_train.signals import StopRequested, StopSignals

LOOK_EVERY = 1.0  # seconds between looks for signals that others got
# In place of a signal, and above all of them: nobody can stop the processes any more.
ORPHANED = 256


class Stop:
    """SIGINT and SIGTERM as a request to all processes, whichever got it; so is the end of the
    torchrun that started one of them, which leaves nobody to stop them, or to start them again."""

    def __init__(self, here: Processes, signals: StopSignals) -> None:
        self._here = here
        self._signals = signals
        self._looked = time.monotonic()

    def agreed(self) -> int:
        """The signal that a process got, or ORPHANED, 0 if none did; the same for all, which all
        ask."""
        orphaned = self._here.launcher_is_gone()
        return self._here.most(ORPHANED if orphaned else self._signals.signum or 0)

    def refuse_orphans(self, agreed: int) -> None:
        """Raises LostProcess where that is what has been ``agreed``: without the launcher's store,
        who works alone for a while cannot be waited for."""
        if agreed == ORPHANED:
            raise LostProcess(LAUNCHER_GONE)

    def check(self) -> None:
        """Raises StopRequested once a signal has arrived, here or, a second later, elsewhere."""
        board = self._here.board
        if self._here.launcher_is_gone():
            raise StopRequested
        if board is None:
            self._signals.check()
            return
        if self._signals.signum is not None:
            board.post("stop")
        elif time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            board.check()
            if board.seen("stop"):
                raise StopRequested
        self._signals.check()
