"""Progress messages for work of unknown length, such as searching folders.

The work may be deep below the command, in a package without a console; listeners receive its
messages.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

FIRST_SECONDS, EVERY_SECONDS = 5.0, 15.0

_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def told(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, ``listener`` is called with one line for each message about long work."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class LongWork:
    """Reports after a few seconds what is being done, and again from time to time.

    Args:
        what: "folder: looking for files"; how many were found follows.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._due = time.monotonic() + FIRST_SECONDS

    def found(self, count: int) -> None:
        """Call this often, with how many were found so far."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_SECONDS
        for listener in _listeners:
            listener(f"{self._what}, {count:,} so far")
