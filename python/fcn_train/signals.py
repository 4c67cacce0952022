"""SIGINT and SIGTERM as a request to stop at the next good moment."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopRequested(Exception):
    """Raised by ``StopSignals.check`` once a signal has arrived."""


class StopSignals:
    """While active, the first signal is noted and the second acts as it would have without.

    Signals can be handled in the main thread only; elsewhere nothing is ever noted.
    """

    HANDLED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in self.HANDLED:
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *unused: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def check(self) -> None:
        if self.signum is not None:
            raise StopRequested

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            signal.signal(signum, self._before[signum])
            os.kill(os.getpid(), signum)
        self.signum = signum
