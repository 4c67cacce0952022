"""Times the implementations of one row side by side: in one process, in rounds."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import torch

Call = Callable[[], Any]

# A shorter sample is the mean of several calls, since the clock and the loop take time, too.
SHORTEST_SAMPLE_S = 0.5e-3
# A longer call is not repeated if one will do.
LONG_CALL_S = 0.5
# More than the caches of today's GPUs hold, so that reading it evicts what the last call left
# there. Together, these reads (0.16 ms each at 3 TB/s) take longer than launching a call and its
# autograd.
FLUSH_BYTES = 512 * 2**20
FLUSHES = 4


class Clock(Protocol):
    def sample(self, call: Call, calls: int) -> float:
        """Mean seconds of a call among ``calls`` consecutive calls."""


class HostClock:
    """The wall clock: right if a call returns when its work is done."""

    def sample(self, call: Call, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls


class DeviceClock:
    """CUDA events around one call, after reads that evict its data from the L2 cache.

    The reads also keep the GPU busy while the host gets ahead, so that launches are not timed
    unless a call waits for the GPU itself.
    """

    def __init__(self) -> None:
        self._flush = torch.ones(FLUSH_BYTES // 4, dtype=torch.float32, device="cuda")
        self._sum = torch.empty((), dtype=torch.float32, device="cuda")

    def flush(self) -> None:
        for _ in range(FLUSHES):
            torch.sum(self._flush, dim=0, out=self._sum)

    def sample(self, call: Call, calls: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3


@dataclass
class Contestant:
    """One implementation in the race of a row, and its samples in seconds."""

    name: str
    call: Call
    calls: int = 1
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)


def warm_up(contestant: Contestant, clock: Clock) -> None:
    """Fills caches and memory pools, and finds how many calls make one sample."""
    seconds = clock.sample(contestant.call, 1)
    if seconds < LONG_CALL_S:
        seconds = min(seconds, clock.sample(contestant.call, 1))
    if isinstance(clock, HostClock):
        contestant.calls = max(1, min(200, int(SHORTEST_SAMPLE_S / max(seconds, 1e-7))))


def race(
    contestants: list[Contestant], clock: Clock, *, seconds: float, at_least: int, at_most: int
) -> None:
    """Runs rounds in which each contestant is called once, in a new random order, until time is up.

    Whatever slows the machine for a while slows all of them. Every contestant gets an equal share
    of ``seconds``. One that has used it up rests, but only after ``at_least`` samples, or two if
    those took all of ``seconds``. The race ends when two are left: alone they would find their data
    in caches that the others emptied.
    """
    order = random.Random(0)
    share = seconds / max(1, len(contestants))
    spent = {contestant.name: 0.0 for contestant in contestants}

    def runs(contestant: Contestant) -> bool:
        samples, used = len(contestant.seconds), spent[contestant.name]
        return used < share or samples < 2 or (samples < at_least and used < seconds)

    gc.collect()
    gc.disable()
    try:
        for _ in range(at_most):
            running = [contestant for contestant in contestants if runs(contestant)]
            if len(running) < min(3, len(contestants)):
                break
            order.shuffle(running)
            for contestant in running:
                start = time.perf_counter()
                contestant.seconds.append(clock.sample(contestant.call, contestant.calls))
                spent[contestant.name] += time.perf_counter() - start
    finally:
        gc.enable()


def copy_call(num_bytes: int, device: torch.device) -> Call:
    """A copy that reads and writes ``num_bytes`` in all, between existing buffers."""
    count = max(1, num_bytes // 8)
    source = torch.ones(count, dtype=torch.float32, device=device)
    destination = torch.zeros_like(source)
    return lambda: destination.copy_(source)


def read_call(num_bytes: int, device: torch.device) -> Call:
    """A sum that reads ``num_bytes`` from an existing buffer."""
    source = torch.ones(max(1, num_bytes // 4), dtype=torch.float32, device=device)
    return source.sum


def write_call(num_bytes: int, device: torch.device) -> Call:
    """Makes and fills a new tensor of ``num_bytes``."""
    return lambda: torch.full((max(1, num_bytes // 4),), 1.0, device=device)
