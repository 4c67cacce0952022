"""Runs launches on the host by the machine code of a compiled library."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from .library import EmulatedLaunch


class MachineCode:
    def __init__(self, library: Path) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
        from sass.kernels import CompiledKernels

        self._kernels = CompiledKernels(library)

    def run(self, launch: EmulatedLaunch) -> None:
        """Runs all blocks, 64 at a time."""
        from sass.machine import Launch

        given = Launch(
            launch.kernel, launch.grid, launch.block, launch.shared_bytes, launch.parameters
        )
        blocks = range(math.prod(launch.grid))
        for first in range(0, len(blocks), 64):
            self._kernels.machine(given, blocks[first : first + 64]).run()
