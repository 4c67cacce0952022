"""Peak memory of one call beyond what was there before it; its result counts.

On CUDA the caching allocator knows the peak. On a CPU the kernel does: /proc/self/clear_refs resets
the peak of the resident set, and VmHWM reads the new one. A process measured in this way must
return memory when it is freed, the opposite of what timing wants, so the CPU is measured by a
process of its own, one implementation after the other.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.cases import Row, rows
from benchmarks.implementations import implementations
from benchmarks.measure import LONG_CALL_S
from benchmarks.workloads import build

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Blocks of 64 KiB and more come from mmap one by one and go back to the kernel when freed.
RETURNING = "glibc.malloc.mmap_threshold=65536:glibc.malloc.mmap_max=1000000"
REPEATS = 3


def _resident(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {field}")


def peak_on_host(call: Callable[[], Any]) -> int:
    """Bytes, the lowest of some calls, to within about 0.25 MiB: the kernel counts in batches."""
    begin = time.perf_counter()
    call()
    repeats = REPEATS if time.perf_counter() - begin < LONG_CALL_S else 1
    peaks = []
    for _ in range(repeats):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR_REFS.write_text("5")
        before = _resident("VmRSS")
        result = call()
        peaks.append(max(0, _resident("VmHWM") - before))
        del result
    return min(peaks)


def peak_on_cuda(call: Callable[[], Any]) -> int:
    """Bytes, from the caching allocator."""
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak


def measure_host(
    chosen: Sequence[Row], threads: int, compiled: Collection[str] = ()
) -> dict[tuple[str, str], int]:
    """(row, implementation) -> bytes, from a process of its own; empty if the system cannot tell.

    ``compiled`` names the rows on which torch.compile is measured, too.
    """
    if not CLEAR_REFS.exists() or not chosen:
        return {}
    asked = {row.name: row.name in compiled for row in chosen}
    request = {"rows": asked, "threads": threads}
    environment = {**os.environ, "GLIBC_TUNABLES": RETURNING}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--memory-worker"],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        env=environment,
        check=False,
    )
    # A worker that was killed for memory has still reported what it measured before.
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("[")]
    return {(row, name): peak for row, name, peak in lines}


def work(request: TextIO, answer: TextIO) -> int:
    """The other side of :func:`measure_host`: a request on stdin, one answer per line on stdout."""
    asked = json.load(request)
    torch.set_num_threads(asked["threads"])
    for row in (*rows(), *rows(grid="sweep")):
        if row.name in asked["rows"]:
            for name, peak in _measure_row(row, compiled=asked["rows"][row.name]):
                print(json.dumps([row.name, name, peak]), file=answer, flush=True)
    return 0


def _measure_row(row: Row, *, compiled: bool) -> Iterator[tuple[str, int]]:
    workload = build(row, torch.device("cpu"))
    for implementation in implementations(row.operator, "cpu", compiled=compiled):
        try:
            yield implementation.name, peak_on_host(implementation.prepare(workload))
        except Exception as error:
            # The timing run meets the same error and reports it.
            print(f"{row.name}: {implementation.name}: {error}", file=sys.stderr)
    torch._dynamo.reset()
