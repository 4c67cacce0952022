"""Stops several processes together."""

from __future__ import annotations

import time

from fcn_train.errors import LostProcess
from fcn_train.processes import LAUNCHER_GONE, Processes
from fcn_train.signals import StopRequested, StopSignals

LOOK_EVERY = 1.0  # seconds between looks for signals that others got
# Instead of a signal, and above all signals: the launcher is gone.
ORPHANED = 256


class Stop:
    """SIGINT, SIGTERM or SIGHUP, whichever process gets it, as a request to all processes. The end
    of the torchrun that started one of them is such a request, too, as nobody could stop or restart
    them any more."""

    def __init__(self, here: Processes, signals: StopSignals) -> None:
        self._here = here
        self._signals = signals
        self._looked = time.monotonic()

    def agreed(self) -> int:
        """The signal that a process got, or ORPHANED; 0 if there was none. All processes must call
        this, and get the same."""
        orphaned = self._here.launcher_is_gone()
        return self._here.most(ORPHANED if orphaned else self._signals.signum or 0)

    def refuse_orphans(self, agreed: int) -> None:
        """Raises LostProcess if ``agreed`` is ORPHANED: without the launcher's store, processes
        cannot wait for one that works alone for a while."""
        if agreed == ORPHANED:
            raise LostProcess(LAUNCHER_GONE)

    def check(self) -> None:
        """Raises StopRequested once a signal has arrived here or, with a delay of up to a second,
        elsewhere."""
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
