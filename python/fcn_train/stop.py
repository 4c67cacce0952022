"""One stop for several processes."""

from __future__ import annotations

import time

from fcn_train.processes import Processes
from fcn_train.signals import StopRequested, StopSignals

LOOK_EVERY = 1.0  # seconds between looks for signals that others got


class Stop:
    """SIGINT and SIGTERM as a request to all processes, whichever got it."""

    def __init__(self, here: Processes, signals: StopSignals) -> None:
        self._here = here
        self._signals = signals
        self._looked = time.monotonic()

    def agreed(self) -> int:
        """The signal that a process got, 0 if none did; the same for all, which all ask."""
        return self._here.most(self._signals.signum or 0)

    def check(self) -> None:
        """Raises StopRequested once a signal has arrived, here or, a second later, elsewhere."""
        board = self._here.board
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
