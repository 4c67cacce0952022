#!/usr/bin/env python3
"""What the CUDA kernels would cost on a GPU, from their machine code: a model, not a measurement.

    tools/gpu_model.py build/cuda/libfcn_ext_cuda.so [ROW...] [--arch sm_90] [--json FILE]

ROW is a pattern of the benchmarks' rows, as in `python -m benchmarks --rows`. For each row it makes
the launches that a GPU would get (tools/benchmark_launches.py), runs the machine code of some of
their blocks (tools/sass) and counts what they issue. It prints for each kernel and row:

- slots: warp instructions issued in the whole launch, the standard error of the blocks' mean, and
  slots per pixel and class;
- issue: the time of these at one per cycle and scheduler (132 SMs of 4, 1.75 GHz), for the blocks
  that the fullest SM gets;
- busiest: the execution unit that takes longest, and its time;
- MB, memory: distinct 32-byte sectors read and written, and their time at 3.0 TB/s;
- floor: the largest of these times. It leaves out latencies, stalls and launches.

With --lines KERNEL it also prints the source lines that the slots of such kernels come from, for a
cubin compiled with -lineinfo: the kernel's own lines, each with what is inlined there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from benchmark_launches import Size, emulation, launch_row  # noqa: E402
from sass.disassembly import find_cuobjdump  # noqa: E402
from sass.kernels import CompiledKernels  # noqa: E402
from sass.lines import Place, sources  # noqa: E402
from sass.machine import LAYOUTS, Launch, Machine  # noqa: E402
from sass.units import cycles_of, unit_of  # noqa: E402

from benchmarks.cases import Row, rows  # noqa: E402
from tests.cuda_emulation.library import EmulatedLaunch, Emulation  # noqa: E402

SHOWN_LINES = 40
DEFAULT_ROWS = (
    "*_cross_entropy/*/float32",
    "*_argmax/*/float32-trained",
    "interpolate_confusion_matrix/*/float32-trained",
    "upsample/*/float32",
    "upsample_backward/*/float32",
    "confusion_matrix/*/small-regions",
)


@dataclass(frozen=True)
class Gpu:
    """An H100 SXM."""

    multiprocessors: int = 132
    schedulers: int = 4
    gigahertz: float = 1.75
    terabytes_a_second: float = 3.0
    registers: int = 65536
    shared_bytes: int = 233472
    threads: int = 2048
    blocks: int = 32


@dataclass(frozen=True)
class Modeled:
    """A launch, or the sum of a row's launches."""

    kernel: str
    blocks: int
    resident: int  # blocks that a multiprocessor holds
    slots: float
    slots_error: float  # standard error of the mean over blocks
    issue_us: float
    busiest: str
    busiest_us: float
    megabytes: float
    memory_us: float

    @property
    def floor_us(self) -> float:
        return max(self.issue_us, self.busiest_us, self.memory_us)


class Model:
    def __init__(
        self, kernels: CompiledKernels, sample: int, watch: Callable[[Machine], None] | None = None
    ) -> None:
        """`watch` is called with each machine that ran."""
        self.kernels = kernels
        self.sample = sample
        self.watch = watch
        self.gpu = Gpu()

    def resident(self, launch: EmulatedLaunch) -> int:
        gpu = self.gpu
        threads = math.prod(launch.block)
        warps = -(-threads // 32)
        held = -(-self.kernels.registers[launch.kernel] * 32 // 256) * 256 * warps
        shared = -(-(launch.shared_bytes + 1024) // 128) * 128
        return min(
            gpu.threads // threads, gpu.registers // held, gpu.shared_bytes // shared, gpu.blocks
        )

    def run_row(self, library: Emulation, row: Row) -> tuple[Size, list[Modeled]]:
        modeled: list[Modeled] = []
        size = launch_row(library, row, lambda launch: modeled.append(self.run(launch)))
        return size, modeled

    def run(self, launch: EmulatedLaunch) -> Modeled:
        blocks = math.prod(launch.grid)
        # The same blocks in every run, and for any build of the same kernels.
        chosen = sampled(blocks, self.sample, zlib.crc32(short_name(launch.kernel).encode()))
        given = Launch(
            launch.kernel, launch.grid, launch.block, launch.shared_bytes, launch.parameters
        )
        machine = self.kernels.machine(given, chosen)
        machine.run()
        if self.watch is not None:
            self.watch(machine)
        scale = blocks / len(chosen)
        gpu = self.gpu
        units: Counter[str] = Counter()
        for instruction, issued in zip(machine.program, machine.issued.tolist(), strict=True):
            units[unit_of(instruction)] += cycles_of(instruction) * issued
        units["shared memory"] = machine.traffic.wavefronts * gpu.schedulers
        # The multiprocessor that gets one block more than others ends last.
        fullest = math.ceil(blocks / gpu.multiprocessors) * gpu.multiprocessors / blocks
        rate = gpu.multiprocessors * gpu.schedulers * gpu.gigahertz * 1e3  # slots a microsecond
        slots = float(machine.issued.sum()) * scale
        error = error_of_mean(machine.issued_by_block, blocks) * blocks
        busiest, cycles = units.most_common(1)[0]
        megabytes = (machine.traffic.loads.bytes + machine.traffic.stores.bytes) * scale * 1e-6
        return Modeled(
            launch.kernel, blocks, self.resident(launch), slots, error,
            slots / rate * fullest, busiest, cycles * scale / rate * fullest,
            megabytes, megabytes / gpu.terabytes_a_second,
        )  # fmt: skip


NEIGHBORS = 4  # blocks that are run together


def error_of_mean(slots: np.ndarray, blocks: int) -> float:
    """Standard error of the mean over `blocks`, from those that sampled() chose. Neighbors have
    much in common, such as tiles on the border of an image, so runs of neighbors are compared."""
    runs = [part.mean() for part in np.array_split(slots, max(1, len(slots) // NEIGHBORS))]
    spread = np.std(runs, ddof=1) / math.sqrt(len(runs)) if len(runs) > 1 else np.std(slots)
    return float(spread * math.sqrt(1 - len(slots) / blocks))


def sampled(blocks: int, count: int, seed: int) -> list[int]:
    """Runs of neighboring blocks, spread over the grid: neighbors share what they read."""
    if blocks <= count:
        return list(range(blocks))
    generator = np.random.default_rng(seed)
    run = min(NEIGHBORS, count)
    parts = np.linspace(0, blocks, count // run + 1).astype(int)
    chosen: set[int] = set()
    for begin, end in pairwise(parts.tolist()):
        first = int(generator.integers(begin, max(begin + 1, end - run + 1)))
        chosen.update(range(first, min(first + run, end)))
    return sorted(chosen)


def lines_of(machine: Machine, sources: Mapping[str, Mapping[int, tuple[Place, ...]]]) -> list[str]:
    """The source lines that the slots of a block come from, those with the most first."""
    places = sources.get(machine.launch.function, {})
    slots: Counter[tuple[Place, ...]] = Counter()
    for instruction, issued in zip(machine.program, machine.issued.tolist(), strict=True):
        slots[places.get(instruction.address, ())[:-5:-1]] += issued
    every = sum(slots.values())
    return [
        f"    {count / every:6.1%} {count / len(machine.blocks):9.0f}  "
        + (" > ".join(f"{file}:{line}" for file, line in place) or "no line is known")
        for place, count in slots.most_common(SHOWN_LINES)
    ]


def total(modeled: Sequence[Modeled]) -> Modeled:
    """The sum of kernels that run one after another."""
    units = Counter({each.busiest: 0.0 for each in modeled})
    for each in modeled:
        units[each.busiest] += each.busiest_us
    return Modeled(
        "all", 0, 0,
        sum(each.slots for each in modeled),
        math.sqrt(sum(each.slots_error**2 for each in modeled)),
        sum(each.issue_us for each in modeled),
        units.most_common(1)[0][0],
        sum(each.busiest_us for each in modeled),
        sum(each.megabytes for each in modeled),
        sum(each.memory_us for each in modeled),
    )  # fmt: skip


def short_name(mangled: str) -> str:
    """cross_entropy_tile_kernel for _ZN7fcn_ext13cross_entropy25cross_entropy_tile_kernel..."""
    names, at = [], mangled.find("N") + 1
    while at < len(mangled) and mangled[at].isdigit():
        digits = ""
        while mangled[at].isdigit():
            digits += mangled[at]
            at += 1
        names.append(mangled[at : at + int(digits)])
        at += int(digits)
    return names[-1] if names else mangled


def lines(modeled: Iterable[Modeled], pixel_classes: int) -> Iterable[str]:
    for each in modeled:
        yield (
            f"  {short_name(each.kernel):32} {each.blocks:7} {each.resident:3} "
            f"{each.slots * 1e-6:8.2f}M {each.slots_error * 1e-6:6.2f} "
            f"{each.slots * 32 / pixel_classes:7.2f} "
            f"{each.issue_us:8.1f} {each.busiest_us:8.1f} {each.busiest:14} "
            f"{each.megabytes:8.1f} {each.memory_us:8.1f}"
        )


HEADER = (
    f"  {'kernel':32} {'blocks':>7} {'SM':>3} {'slots':>9} {'+-':>6} {'a px-cl':>7} "
    f"{'issue us':>8} {'unit us':>8} {'busiest unit':14} {'MB':>8} {'mem us':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("rows", nargs="*", default=DEFAULT_ROWS)
    parser.add_argument("--arch", default="sm_90", choices=LAYOUTS)
    parser.add_argument("--cuobjdump")
    parser.add_argument("--blocks", type=int, default=256, help="that are run of each launch")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--lines", metavar="KERNEL", help="whose source lines are shown")
    arguments = parser.parse_args()
    kernels = CompiledKernels(arguments.binary, arguments.arch, arguments.cuobjdump)
    watch = None
    of_lines: list[str] = []  # of the current row
    if arguments.lines is not None:
        places = sources(arguments.binary, find_cuobjdump(arguments.cuobjdump))

        def watch(machine: Machine) -> None:
            if arguments.lines in machine.launch.function:
                of_lines.extend(lines_of(machine, places))

    model = Model(kernels, arguments.blocks, watch)
    library = emulation()
    written = {}
    print(HEADER)
    for row in rows(tuple(arguments.rows)):
        size, modeled = model.run_row(library, row)
        whole = total(modeled)
        minimal = size.minimal_bytes * 1e-6
        print(
            f"{row.name}: model floor {sum(each.floor_us for each in modeled):.0f} us, "
            f"{len(modeled)} kernels, at least {minimal:.0f} MB"
        )
        for line in [*lines([*modeled, whole], size.pixel_classes), *of_lines]:
            print(line)
        of_lines.clear()
        sys.stdout.flush()
        written[row.name] = {
            "pixel_classes": size.pixel_classes,
            "minimal_bytes": size.minimal_bytes,
            "kernels": [asdict(each) for each in modeled],
        }
    if arguments.json:
        document = {"model": True, "gpu": asdict(model.gpu), "rows": written}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
