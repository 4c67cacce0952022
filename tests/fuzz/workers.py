"""Batches of cases, each in a process of its own: crashes and hangs are faults that have a case."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

BATCH = 500
_MOST_SECONDS = 60.0  # of one case
_MOST_FAULTS = 20  # of a function, after which it is left alone


@dataclass(frozen=True)
class Batch:
    """Some cases of a function, [begin, end)."""

    name: str
    seed: int
    begin: int
    end: int


@dataclass(frozen=True)
class Finding:
    name: str
    seed: int
    number: int
    text: str


Run = Callable[[str, int, int], None]


class _Worker:
    def __init__(self, batch: Batch, run: Run) -> None:
        self.batch = batch
        # Forked: torch is imported already, and no thread runs yet.
        context = multiprocessing.get_context("fork")
        self.place = context.Value(ctypes.c_int64, batch.begin, lock=False)
        self.found: Any
        self.found, send = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(batch, run, self.place, send))
        self.process.start()
        send.close()
        self._last, self._since = batch.begin, time.monotonic()

    def is_stuck(self) -> bool:
        now = time.monotonic()
        if self.place.value != self._last:
            self._last, self._since = self.place.value, now
        return now - self._since > _MOST_SECONDS


def _work(batch: Batch, run: Run, place: Any, send: Any) -> None:
    from .judge import Fault

    faulthandler.enable(sys.__stderr__)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in range(batch.begin, batch.end):
        place.value = number
        try:
            run(batch.name, batch.seed, number)
        except Fault as fault:
            send.send((number, str(fault)))
    place.value = batch.end
    send.close()


def batches(
    names: Iterable[str], seed: int, cases: int | None, size: int = BATCH
) -> Iterator[Batch]:
    """So many cases of each function, of all in turn; for ever where ``cases`` is None."""
    names, begin = list(names), 0
    while cases is None or begin < cases:
        end = begin + size if cases is None else min(begin + size, cases)
        for name in names:
            yield Batch(name, seed, begin, end)
        begin = end


def run_batches(
    todo: Iterator[Batch], run: Run, jobs: int, until: float, tell: Callable[[Finding], None]
) -> dict[str, int]:
    """Works off the batches with ``jobs`` processes until the time ``until`` (of time.monotonic).

    Returns:
        How many cases of each function were run.
    """
    workers: list[_Worker] = []
    done: dict[str, int] = {}
    faults: dict[str, int] = {}
    again: list[Batch] = []
    while True:
        while len(workers) < jobs and time.monotonic() < until:
            batch = again.pop() if again else next(todo, None)
            if batch is None:
                break
            if faults.get(batch.name, 0) < _MOST_FAULTS:
                workers.append(_Worker(batch, run))
        if not workers:
            return done
        wait([item for w in workers for item in (w.process.sentinel, w.found)], timeout=1.0)
        for worker in list(workers):
            batch = worker.batch
            is_stuck = worker.is_stuck()
            if is_stuck:
                worker.process.kill()
            ended = not worker.process.is_alive()
            findings = list(_received(worker.found))
            if ended:
                worker.process.join()
                workers.remove(worker)
                last = worker.place.value
                done[batch.name] = done.get(batch.name, 0) + last - batch.begin
                if last < batch.end:
                    how = "hangs" if is_stuck else _ending(worker.process.exitcode)
                    findings.append((last, how))
                    done[batch.name] += 1
                    again.append(Batch(batch.name, batch.seed, last + 1, batch.end))
            for number, text in findings:
                faults[batch.name] = faults.get(batch.name, 0) + 1
                tell(Finding(batch.name, batch.seed, number, text))


def _received(found: Any) -> Iterator[tuple[int, str]]:
    try:
        while found.poll():
            yield found.recv()
    except EOFError:
        return


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process is killed by {signal.Signals(-code).name}"
    return f"the process ends with {code}"


def cores() -> int:
    return len(os.sched_getaffinity(0))
