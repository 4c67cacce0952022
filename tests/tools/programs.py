"""Machine code written by hand, and what lanes make of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PARAMETERS = 0x210

# Each thread's number in R0, and the address of its element of an array of `size` bytes an element,
# whose pointer is parameter k.
THREAD = "S2R R0, SR_TID.X"


def address(register: int, k: int, size: int = 4) -> str:
    return (
        f"MOV R{register}, 0x{size:x}\n"
        f"IMAD.WIDE R{register}, R0, R{register}, c[0x0][0x{PARAMETERS + 8 * k:x}]"
    )


def assembled(text: str) -> list[Any]:
    """Instructions, one a line; ``name:`` is a label, ``{name}`` its address."""
    from sass.disassembly import decode

    lines: list[str] = []
    labels: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.endswith(":"):
            labels[line[:-1]] = hex(16 * len(lines))
        else:
            lines.append(line)
    return [decode(16 * k, line.format(**labels)) for k, line in enumerate(lines)]


def machine_for(
    text: str,
    *arrays: Array,
    threads: int = 32,
    blocks: int = 1,
    shared_bytes: int = 0,
    jump_targets: Sequence[int] = (),
) -> Any:
    from sass.machine import Launch, Machine

    parameters = b"".join(struct.pack("<Q", array.ctypes.data) for array in arrays)
    launch = Launch("kernel", (blocks, 1, 1), (threads, 1, 1), shared_bytes, parameters)
    table = struct.pack(f"<{len(jump_targets)}I", *jump_targets)
    return Machine(assembled(text), launch, range(blocks), jump_targets=table)


def run(text: str, *arrays: Array, **how: Any) -> Any:
    machine = machine_for(text, *arrays, **how)
    machine.run()
    return machine


def issued(machine: Any, text: str) -> int:
    """How often a warp took the instruction that begins so."""
    (place,) = (k for k, each in enumerate(machine.program) if each.text.startswith(text))
    return int(machine.issued[place])


def of_words(body: str, *inputs: Array) -> Array:
    """What a body makes of one word a lane in R10, R11, ...: a word in R20."""
    result = np.zeros(32, np.uint32)
    loads = "\n".join(
        f"{address(2, k + 1)}\nLDG.E R{10 + k}, desc[UR4][R2.64]" for k in range(len(inputs))
    )
    words = [np.ascontiguousarray(each).view(np.uint32) for each in inputs]
    run(
        f"{THREAD}\n{loads}\n{body}\n{address(4, 0)}\nSTG.E desc[UR4][R4.64], R20\nEXIT",
        result,
        *words,
    )
    return result
