"""SIGINT, SIGTERM and SIGHUP as a request to stop at the next good moment."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


def _handled() -> list[signal.Signals]:
    """Ctrl-C, a polite kill, and the terminal that is closed, unless ``nohup`` has it ignored."""
    handled = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    return handled


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP end the process with one line.

    Used while modules are imported: an exception in the middle of their C++ would abort with its
    own message, and there is nothing to save yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, _end) for signum in _handled()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _end(signum: int, frame: FrameType | None) -> None:
    if os.environ.get("RANK", "0") == "0":  # only one of several processes prints
        with contextlib.suppress(OSError):  # where standard error is closed
            os.write(2, b"fcn: interrupted\n")
    os._exit(128 + signum)


def let_sigint_end() -> None:
    """From now on SIGINT ends the process without a word: its work is done, and in what Python does
    at the end KeyboardInterrupt would be printed. A process that ignores it goes on so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM and SIGHUP inside :func:`endings_raise`, as KeyboardInterrupt is by
    SIGINT.

    Attributes:
        signum: which of the two.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def endings_raise() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Terminated; by default they would end the process at once
    and leave half-written files. A process that ignores or already handles one keeps doing so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = [
        number
        for number in _handled()
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in ending:
        signal.signal(number, _raise_terminated)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


def signal_of(interruption: KeyboardInterrupt) -> int:
    """The signal that raised it."""
    return interruption.signum if isinstance(interruption, Terminated) else signal.SIGINT


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise Terminated(signum)


@contextlib.contextmanager
def lost_workers_held_back(*, forget: bool = False) -> Iterator[None]:
    """Inside, the end of a loader process raises nothing; after the block it does, unless
    ``forget``.

    torch's handler of SIGCHLD raises wherever the program happens to be, even in the middle of an
    update or of writing a file.
    """
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[FrameType | None] = []
    before = signal.signal(number, lambda signum, frame: held.append(frame))
    try:
        yield
    finally:
        signal.signal(number, before)
    if held and callable(before) and not forget:
        before(number, held[0])


class StopRequested(Exception):
    """Raised by ``StopSignals.check`` once a signal has arrived."""


class StopSignals:
    """While active, the first signal is recorded, and the second has its usual effect.

    Signals can be handled in the main thread only; elsewhere nothing is recorded.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in _handled():
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
