"""Measures where the time of a training goes: the seconds of each of its parts."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from fcn_train.heads import Net
from fcn_train.history import write_csv
from fcn_train.tables import text_table

T = TypeVar("T")

LOADING, TRANSFER, FORWARD, LOSS = "loading", "transfer", "forward", "loss"
BACKWARD, OPTIMIZER = "backward", "optimizer"
VALIDATION, SAVING = "validation", "saving"
FIRST, OTHER = "first step", "other"
STEP = (LOADING, TRANSFER, FORWARD, LOSS, BACKWARD, OPTIMIZER)
ROWS = (*STEP, FIRST, VALIDATION, SAVING, OTHER)
HEADER = ("part", "seconds", "share", "ms_per_step")


class Clock(Protocol):
    """Marks moments, and measures the time between two of them."""

    def mark(self) -> Any: ...

    def seconds(self, start: Any, end: Any, *, wait: bool) -> float | None:
        """The time between two marks; None if the end is not reached yet, unless ``wait``."""


class HostClock:
    """Marks moments of this process."""

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, start: float, end: float, *, wait: bool) -> float:
        return end - start


class DeviceClock:
    """Marks moments of a GPU's work with events, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(
        self, start: torch.cuda.Event, end: torch.cuda.Event, *, wait: bool
    ) -> float | None:
        if wait:
            end.synchronize()
        return start.elapsed_time(end) / 1000 if end.query() else None


class Profile:
    """Adds up the time between marks, each for the part of the training that it is in.

    The parts follow one another without a gap, so their sum is the time from ``start`` on. The time
    of a part within another counts only for the inner one. The first step, which allocates all
    buffers and compiles, is a single part of its own.

    Args:
        clock: measures the time; without one nothing is measured, at no cost.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self.start()

    @staticmethod
    def on(device: torch.device) -> Profile:
        """A profile with the clock of ``device``."""
        return Profile(DeviceClock(device) if device.type == "cuda" else HostClock())

    def start(self) -> None:
        """Drop what was measured, and begin."""
        self.steps = 0
        self._seconds = dict.fromkeys(ROWS, 0.0)
        self._waiting: deque[tuple[str, Any, Any]] = deque()
        self._part = OTHER
        if self._clock is not None:
            self._last = self._clock.mark()

    def watch(self, model: Net) -> None:
        """Measure the computation of the scores apart from the loss: every forward pass goes
        through ``model.scores``."""
        if self._clock is None:
            return
        plain = model.scores

        def scores(images: torch.Tensor) -> Any:
            made = plain(images)
            if self._part == FORWARD:
                self._switch(LOSS)
            return made

        model.scores = scores  # type: ignore[method-assign]

    def part(self, name: str) -> contextlib.AbstractContextManager[None]:
        """A context whose time counts for part ``name``."""
        return contextlib.nullcontext() if self._clock is None else self._measured(name)

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Iterate over ``items``; waiting for each counts for part ``name``."""
        waiting = iter(items)
        while True:
            with self.part(name):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item

    def step_is_over(self) -> None:
        self.steps += 1

    def seconds(self) -> dict[str, float]:
        """The seconds of each part so far; waits for the device."""
        if self._clock is not None:
            self._switch(self._part)
            self._settle(wait=True)
        return dict(self._seconds)

    def table(self) -> list[tuple[str, float, float, float]]:
        """Rows under ``HEADER``, for parts that took any time. Milliseconds are those of the steps
        after the first."""
        seconds = self.seconds()
        total = sum(seconds.values()) or 1.0
        steps = max(1, self.steps - 1)
        return [
            (name, value, value / total, 1000 * value / steps if name in STEP else 0.0)
            for name, value in seconds.items()
            if value > 0
        ]

    def write(self, path: Path) -> list[str]:
        """Write the table as CSV; returns it as lines to show. Does nothing without a clock."""
        if self._clock is None:
            return []
        rows = self.table()
        write_csv(path, HEADER, rows)
        cells = [
            (name, f"{seconds:.2f}", f"{100 * share:.1f}", f"{step:.1f}" if step else "")
            for name, seconds, share, step in rows
        ]
        return text_table(("part", "seconds", "%", "ms per step"), cells).splitlines()

    @contextlib.contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before = self._part
        self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, name: str) -> None:
        """Count what follows for part ``name``."""
        if self._clock is None:
            return
        now = self._clock.mark()
        part = FIRST if self.steps == 0 and self._part in STEP else self._part
        self._waiting.append((part, self._last, now))
        self._part, self._last = name, now
        self._settle(wait=False)

    def _settle(self, *, wait: bool) -> None:
        """Add up the intervals that have ended."""
        assert self._clock is not None
        while self._waiting:
            part, start, end = self._waiting[0]
            seconds = self._clock.seconds(start, end, wait=wait)
            if seconds is None:
                break
            self._seconds[part] += seconds
            self._waiting.popleft()


OFF = Profile()
"""Measures nothing."""
