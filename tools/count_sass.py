#!/usr/bin/env python3
"""Counts the instructions of the class loops of the CUDA cross-entropy, per pixel and class.

    tools/count_sass.py build/cuda/libfcn_ext_cuda.so [--arch sm_90] [--cuobjdump PATH]

A library, an object file or a cubin is disassembled with cuobjdump (CUDA toolkit, beside nvdisasm).
A class loop is an innermost loop with the four or five exponentials of each cell that a thread
takes; the backward's loop stores its sums to shared memory. Every instruction of a warp takes one
issue slot; an exponential also keeps its unit busy for 8 cycles.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sass.disassembly import disassemble, find_cuobjdump, functions

EXPONENTIALS = (4, 5)  # per cell; the middle row of eight has one of its own
SIDE = 8  # the most pixels that a thread takes, across and down


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop, without predicates and modifiers."""

    names: Counter[str]

    @property
    def slots(self) -> int:
        return sum(self.names.values())


def innermost_loops(instructions: list[tuple[int, str]]) -> Iterator[Loop]:
    backward = re.compile(r"\bBRA(?:\.\w+)*\s.*?(0x[0-9a-f]+)")
    spans = []
    for address, text in instructions:
        jump = backward.search(text)
        if jump and int(jump[1], 16) < address:
            spans.append((int(jump[1], 16), address))
    for begin, end in spans:
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans):
            texts = [text for address, text in instructions if begin <= address <= end]
            bare = [re.sub(r"^@!?U?P\w+\s+", "", text).split()[0] for text in texts]
            yield Loop(Counter(name if name == "MUFU.EX2" else name.split(".")[0] for name in bare))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--cuobjdump")
    arguments = parser.parse_args()
    cuobjdump = find_cuobjdump(arguments.cuobjdump)
    sass = disassemble(arguments.binary, arguments.arch, cuobjdump)

    rows = set()
    for name, instructions in functions(sass):
        kernel = re.search(
            r"cross_entropy_tile_kernel.*CellTileILi(\d+)ELi(\d+)EE.*Lb([01])E", name
        )
        if not kernel:
            continue
        stride, cells = int(kernel[1]), int(kernel[2])
        pixels = cells * min(stride, SIDE) ** 2
        for loop in innermost_loops(instructions):
            if loop.names["MUFU.EX2"] in (cells * each for each in EXPONENTIALS):
                sweep = "backward" if loop.names["STS"] > 0 else "forward"
                purpose = "with gradient" if kernel[3] == "1" else "loss alone"
                common = ", ".join(f"{n} {name}" for name, n in loop.names.most_common(6))
                rows.add((stride, purpose, sweep, loop.slots, loop.slots / pixels, common))
    if not rows:
        sys.exit(f"count_sass.py: {arguments.binary} holds no class loop for {arguments.arch}")
    print("stride  kernel         sweep     slots  a pixel-class  most frequent instructions")
    for stride, purpose, sweep, slots, each, common in sorted(rows):
        print(f"{stride:6}  {purpose:13}  {sweep:8}  {slots:5}  {each:13.2f}  {common}")


if __name__ == "__main__":
    main()
