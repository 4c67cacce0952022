"""Speed, time left and memory of work in progress, as short text."""

from __future__ import annotations

import sys
import time
from collections import deque

from fcn_train import machine

WINDOW = 60.0  # seconds of work over which a speed is averaged
MEMORY_EVERY = 1.0


class Pace:
    """Measures the pace of a progress.

    Args:
        total, done: units of work, and how many of them were done before the start.
        images: the images in a unit; 0 if units are not images.
    """

    def __init__(self, total: int, done: int, images: int) -> None:
        self.total, self.done, self.images = total, done, images
        self._last = time.monotonic()
        self._moves: deque[tuple[float, int]] = deque()
        self._seconds, self._units = 0.0, 0
        self._memory, self._memory_due = "", 0.0

    def move(self, count: int) -> float:
        """Record that ``count`` more units are done; returns the time. The time before a move of 0,
        such as that of an evaluation during a training, does not count."""
        now = time.monotonic()
        if count > 0:
            self.done += count
            self._moves.append((now - self._last, count))
            self._seconds += now - self._last
            self._units += count
            while self._seconds - self._moves[0][0] >= WINDOW:
                seconds, units = self._moves.popleft()
                self._seconds -= seconds
                self._units -= units
        self._last = now
        return now

    @property
    def speed(self) -> float:
        """Units per second, of the last minute of work; 0 before anything is known."""
        return self._units / self._seconds if self._seconds > 0 else 0.0

    def words(self) -> str:
        """Images per second, time left and memory, as far as they are known."""
        parts = []
        if self.speed > 0:
            if self.images:
                parts.append(f"{_three_digits(self.images * self.speed)} images/s")
            parts.append(f"{duration((self.total - self.done) / self.speed)} left")
        if self._last >= self._memory_due:
            self._memory, self._memory_due = memory_in_use(), self._last + MEMORY_EVERY
        return ", ".join([*parts, *filter(None, [self._memory])])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; from a day on, days and hours."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def memory_in_use() -> str:
    """The memory of the GPU if this process uses one, else of this process; "" if unknown."""
    torch = sys.modules.get("torch")  # not imported just for this
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"{torch.cuda.memory_reserved() / 2**30:.1f} GiB of GPU memory"
    resident = machine.resident_memory()
    return "" if resident is None else f"{resident / 2**30:.1f} GiB"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
