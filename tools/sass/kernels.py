"""The kernels of a compiled library, ready to run a launch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sass.disassembly import (
    Instruction,
    constant_banks,
    decode,
    disassemble,
    find_cuobjdump,
    functions,
    registers,
)
from sass.machine import LAYOUTS, Launch, Machine


class CompiledKernels:
    def __init__(self, binary: Path, arch: str = "sm_90", cuobjdump: str | None = None) -> None:
        found = find_cuobjdump(cuobjdump)
        self._binary = binary
        self._texts = dict(functions(disassemble(binary, arch, found)))
        self._jump_targets = constant_banks(binary, arch, found)
        self._layout = LAYOUTS[arch]
        self.registers = registers(binary, arch, found)
        self.program = lru_cache(maxsize=64)(self._decoded)

    def _decoded(self, kernel: str) -> list[Instruction]:
        if kernel not in self._texts:
            raise KeyError(
                f"{self._binary} has no kernel {kernel}: was it built from these sources?"
            )
        return [decode(*each) for each in self._texts[kernel]]

    def machine(self, launch: Launch, blocks: Sequence[int]) -> Machine:
        """A machine for some blocks of a launch, given by their linear numbers."""
        program = self.program(launch.function)
        targets = self._jump_targets.get(launch.function, b"")
        return Machine(program, launch, blocks, self._layout, targets)
