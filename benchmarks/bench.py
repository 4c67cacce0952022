"""Runs rows and makes the document of figures for tables, checks and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.accuracy import Accuracy
from benchmarks.cases import Row
from benchmarks.implementations import implementations
from benchmarks.measure import (
    Clock,
    Contestant,
    DeviceClock,
    HostClock,
    copy_call,
    race,
    read_call,
    warm_up,
    write_call,
)
from benchmarks.memory import peak_on_cuda
from benchmarks.visits import best_peer
from benchmarks.workloads import Workload, build

COPY = "copy of the same bytes"
# For operators that read a map and write next to nothing, or write a new one and read next to
# nothing: a copy into an existing buffer says less than moving the same bytes one way.
READING, WRITING = "torch.sum of the same bytes", "torch.full of the same bytes"
ONE_WAY = {
    "upsample_backward": ("reading", READING, read_call),
    "upsample": ("writing", WRITING, write_call),
}
SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """How long to measure, and what. ``seconds`` is the time per row and visit; ``compile`` holds
    patterns of rows."""

    device: str = "cpu"
    threads: int = 1
    malloc: str = "keep"
    seconds: float = 2.0
    at_least: int = 5
    at_most: int = 200
    visits: int = 1
    compiled: bool = True
    compile: tuple[str, ...] = ()  # rows that are compiled besides those of Row.compiled
    quick: bool = False

    def compiles(self, row: Row) -> bool:
        return self.compiled and (row.compiled or row.matches(self.compile))


def new_document(settings: Settings, environment: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "environment": environment,
        "settings": {**asdict(settings), "compile": list(settings.compile)},
        "rows": [],
        "skipped": [],
    }


def make_clock(device: torch.device) -> Clock:
    return DeviceClock() if device.type == "cuda" else HostClock()


def run_row(
    row: Row, settings: Settings, clock: Clock, host_peaks: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """The figures of one row. ``host_peaks`` are those of :func:`memory.measure_host`."""
    device = torch.device(settings.device)
    workload = build(row, device)
    accuracy = Accuracy(workload)
    chosen = implementations(row.operator, device.type, compiled=settings.compiles(row))
    entries: dict[str, dict[str, Any]] = {}
    contestants = [Contestant(COPY, copy_call(workload.minimal_bytes, device))]
    if row.operator in ONE_WAY:
        _, name, bound = ONE_WAY[row.operator]
        contestants.append(Contestant(name, bound(workload.minimal_bytes, device)))
    for contestant in contestants:
        warm_up(contestant, clock)
    for implementation in chosen:
        entry: dict[str, Any] = {"name": implementation.name, "kind": implementation.kind}
        entries[implementation.name] = entry
        peak = host_peaks.get((row.name, implementation.name))
        try:
            contestant = Contestant(implementation.name, implementation.prepare(workload))
            entry |= accuracy.check(implementation, contestant.call())
            if device.type == "cuda":
                peak = peak_on_cuda(contestant.call)
            warm_up(contestant, clock)
            contestants.append(contestant)
        except Exception as error:
            # A finding of its own; if it is the project's, the run continues and exits with 1.
            entry["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        entry["peak_mib"] = None if peak is None else round(peak / 2**20, 3)
    race(
        contestants,
        clock,
        seconds=settings.seconds,
        at_least=settings.at_least,
        at_most=settings.at_most,
    )
    result = _figures(row, workload, contestants, entries)
    torch._dynamo.reset()
    return result


def _figures(
    row: Row, workload: Workload, contestants: list[Contestant], entries: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    timed = {contestant.name: contestant for contestant in contestants}
    copy, project = timed[COPY], timed.get("fcn_ext")
    one_way, bound, _ = ONE_WAY.get(row.operator, ("", "", None))
    for name, entry in entries.items():
        if name in timed:
            contestant = timed[name]
            entry |= _times(contestant, workload.minimal_bytes)
            entry["share_of_copy"] = copy.median / contestant.median
            entry["share_of_copy_minimum"] = copy.minimum / contestant.minimum
            if one_way:
                entry[f"share_of_{one_way}"] = timed[bound].median / contestant.median
            if project is not None:
                entry["times_fcn_ext"] = contestant.median / project.median
                entry["times_fcn_ext_minimum"] = contestant.minimum / project.minimum
    bounds = {"copy": {"name": COPY, **_times(copy, workload.minimal_bytes)}}
    if one_way:
        bounds[one_way] = {"name": bound, **_times(timed[bound], workload.minimal_bytes)}
    return {
        "name": row.name,
        "operator": row.operator,
        "case": row.case.name,
        "dtype": row.variant.dtype,
        "layout": row.variant.layout,
        "labels": row.variant.labels,
        "scores": row.variant.scores,
        "shapes": [list(map.shape) for map in workload.maps],
        "dtypes": [str(map.dtype).removeprefix("torch.") for map in workload.maps],
        "minimal_bytes": workload.minimal_bytes,
        **bounds,
        "implementations": list(entries.values()),
        "best_peer": best_peer(list(entries.values())),
    }


def _times(contestant: Contestant, num_bytes: int) -> dict[str, Any]:
    return {
        "median_ms": contestant.median * 1e3,
        "minimum_ms": contestant.minimum * 1e3,
        "samples": len(contestant.seconds),
        "calls_per_sample": contestant.calls,
        "gb_per_s": num_bytes / contestant.median * 1e-9,
    }
