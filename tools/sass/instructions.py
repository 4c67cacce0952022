"""What each instruction does to the lanes that execute it.

A table by name; an instruction that it lacks raises UnknownInstruction when a program is loaded.
Semantics are those of the CUDA binary utilities' instruction reference and of PTX. Sums and
products of float32 are rounded exactly; a fused multiply-add is rounded from double, which differs
in the last bit about once in 10^9 times. Approximate functions (MUFU) are correctly rounded, unlike
in hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sass.bits import BITS
from sass.builder import Builder, Work, guard_of
from sass.control import CONTROL, Control
from sass.conversions import CONVERSIONS
from sass.disassembly import Instruction
from sass.floats import FLOATS
from sass.integers import INTEGERS
from sass.loads import LOADS
from sass.warps import WARPS

np.seterr(all="ignore")

TABLE: dict[str, Callable[[Builder], Work]] = {
    **INTEGERS,
    **BITS,
    **FLOATS,
    **CONVERSIONS,
    **LOADS,
    **WARPS,
}


class UnknownInstruction(NotImplementedError):
    pass


@dataclass(frozen=True)
class Step:
    guard: Callable[[Any], Any] | None
    work: Work | None = None
    control: Control | None = None


def compile_instruction(machine: Any, instruction: Instruction) -> Step:
    builder = Builder(machine, instruction)
    guard = guard_of(machine.state, instruction)
    try:
        if instruction.name in CONTROL:
            return Step(guard, control=CONTROL[instruction.name](builder))
        return Step(guard, work=TABLE[instruction.name](builder))
    except (KeyError, NotImplementedError) as error:
        raise UnknownInstruction(f"{instruction.text} ({error!r})") from error
