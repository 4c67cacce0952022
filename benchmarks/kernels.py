"""Which kernels a call of this project launches, how often and how long each runs.

The races of bench.py time whole calls; this shows where their time goes. On a CPU it reports
torch's operators, so that it can be tried out without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.cases import Row
from benchmarks.implementations import implementations
from benchmarks.measure import DeviceClock
from benchmarks.report import print_table
from benchmarks.workloads import Workload, build

SCHEMA = 1
HEADER = ("operator/case/variant", "us", "GB/s", "kernel", "launches", "median us")
SHOWN_NAME = 80
CALLS = {"cuda": 20, "cpu": 5}


@dataclass(frozen=True)
class Launch:
    """A kernel that ran or, on a CPU, an operator without those that it called; microseconds."""

    name: str
    begin: float
    duration: float

    @property
    def end(self) -> float:
        return self.begin + self.duration


def split(launches: Iterable[Launch], mark: str) -> list[list[Launch]]:
    """One list per call: what ran between its two marks, in order of time."""
    calls: list[list[Launch]] = []
    inside = False
    for launch in sorted(launches, key=lambda launch: launch.begin):
        if launch.name == mark:
            inside = not inside
            if inside:
                calls.append([])
        elif inside:
            calls[-1].append(launch)
    if inside:
        raise RuntimeError("the profiler lost a mark: what belongs to which call is unknown")
    return calls


def figures(calls: Sequence[Sequence[Launch]], minimal_bytes: int) -> dict[str, Any]:
    """Medians over calls. ``span_us`` is from the start of the first kernel to the end of the last,
    gaps included; ``busy_us`` is the sum of the kernels. GB/s are based on the span."""
    span = median(max(launch.end for launch in call) - call[0].begin for call in calls)
    kernels = []
    for name in dict.fromkeys(launch.name for call in calls for launch in call):
        durations = [[launch.duration for launch in call if launch.name == name] for call in calls]
        each = [duration for call in durations for duration in call]
        kernels.append(
            {
                "name": name,
                "launches_per_call": median(map(len, durations)),
                "median_us": round(median(each), 3),
                "us_per_call": round(median(map(sum, durations)), 3),
            }
        )
    return {
        "calls": len(calls),
        "span_us": round(span, 3),
        "busy_us": round(median(sum(launch.duration for launch in call) for call in calls), 3),
        "minimal_bytes": minimal_bytes,
        "gb_per_s": minimal_bytes / span * 1e-3,
        "kernels": sorted(kernels, key=lambda kernel: -kernel["us_per_call"]),
    }


class Profiler:
    """Runs calls under torch's profiler, each between two marks."""

    def __init__(self, device: torch.device) -> None:
        self.calls = CALLS[device.type]
        self._clock = DeviceClock() if device.type == "cuda" else None
        self._small = torch.ones(64, dtype=torch.int32, device=device)
        self._launches(self._mark)  # the first events of a process may be lost
        names = {launch.name for launch in self._launches(self._mark)}
        if len(names) != 1:
            raise RuntimeError(f"torch's profiler sees this in place of a mark: {sorted(names)}")
        (self.mark,) = names

    def _mark(self) -> None:
        if self._clock is None:
            with record_function("benchmarks: mark"):
                pass
        else:
            # A kernel of its own: nothing that is measured negates integers.
            self._small.bitwise_not_()

    def _launches(self, work: Callable[[], Any]) -> list[Launch]:
        if self._clock is None:
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                work()
            return [
                Launch(event.name, event.time_range.start, event.self_cpu_time_total)
                for event in profiled.events() or ()
            ]
        torch.cuda.synchronize()  # so that nothing from before is seen
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            work()
            torch.cuda.synchronize()
        return [
            Launch(event.name, event.time_range.start, event.time_range.elapsed_us())
            for event in profiled.events() or ()
            if event.device_type == DeviceType.CUDA and event.name != "Context Sync"
        ]

    def profile(self, call: Callable[[], Any], minimal_bytes: int) -> dict[str, Any]:
        call()  # loads the kernels, fills the allocator's pool

        def work() -> None:
            for _ in range(self.calls):
                if self._clock is not None:
                    self._clock.flush()
                self._mark()
                call()
                self._mark()

        calls = [call for call in split(self._launches(work), self.mark) if call]
        if len(calls) != self.calls:
            raise RuntimeError(f"the profiler saw kernels of {len(calls)} of {self.calls} calls")
        return figures(calls, minimal_bytes)


def prepare(row: Row, device: torch.device) -> tuple[Workload, Callable[[], Any]]:
    """The row's workload, and a call of this project on it."""
    workload = build(row, device)
    project = next(
        implementation
        for implementation in implementations(row.operator, device.type, compiled=False)
        if implementation.name == "fcn_ext"
    )
    return workload, project.prepare(workload)


def profile_row(row: Row, profiler: Profiler, device: torch.device) -> dict[str, Any]:
    """The figures of one row, or why there are none."""
    try:
        workload, call = prepare(row, device)
        return {"name": row.name, **profiler.profile(call, workload.minimal_bytes)}
    except Exception as error:
        return {
            "name": row.name,
            "failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
        }


def call_once(row: Row, device: torch.device) -> None:
    """One call, for a profiler that watches this process from outside."""
    _, call = prepare(row, device)
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()


def print_kernels(rows: Sequence[dict[str, Any]], out: Any) -> None:
    lines = []
    for row in rows:
        if "failed" in row:
            lines.append((row["name"], "-", "-", row["failed"], "", ""))
            continue
        heads = (row["name"], f"{row['span_us']:.1f}", f"{row['gb_per_s']:.0f}")
        for kernel in row["kernels"]:
            count, each = f"{kernel['launches_per_call']:g}", f"{kernel['median_us']:.1f}"
            lines.append((*heads, kernel["name"][:SHOWN_NAME], count, each))
            heads = ("", "", "")
    print_table("kernels of one call of fcn_ext", HEADER, lines, out)
