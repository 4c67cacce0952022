"""Access to an instruction's operands, shared by the tables of instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sass import operands
from sass.disassembly import Instruction
from sass.operands import Getter

Work = Callable[[Any], None]


def guard_of(state: Any, instruction: Instruction) -> Getter | None:
    if instruction.guard is None:
        return None
    kind, number, inverted = instruction.guard
    return operands.predicate(state, f"{'!' if inverted else ''}{kind}{number}")


class Builder:
    def __init__(self, machine: Any, instruction: Instruction) -> None:
        self.machine = machine
        self.state = machine.state
        self.instruction = instruction
        self.texts = instruction.operands
        self.modifiers = instruction.modifiers

    def has(self, *modifiers: str) -> bool:
        return any(modifier in self.modifiers for modifier in modifiers)

    @property
    def uniform(self) -> bool:
        return self.instruction.name.startswith("U")

    def with_operands(self, texts: tuple[str, ...]) -> Instruction:
        return replace(self.instruction, operands=texts)

    def lanes(self, group: Any) -> Any:
        """The lanes that compute: for a uniform instruction, the whole warp."""
        return group.whole.ix if self.uniform else group.ix

    def u32(self, k: int) -> Getter:
        return operands.u32(self.state, self.texts[k])

    def s32(self, k: int) -> Getter:
        return operands.s32(self.state, self.texts[k])

    def u64(self, k: int) -> Getter:
        return operands.u64(self.state, self.texts[k])

    def f32(self, k: int) -> Getter:
        return operands.f32(self.state, self.texts[k])

    def f64(self, k: int) -> Getter:
        return operands.f64(self.state, self.texts[k])

    def predicate(self, k: int) -> Getter:
        return operands.predicate(self.state, self.texts[k])

    def is_predicate(self, k: int) -> bool:
        return -len(self.texts) <= k < len(self.texts) and operands.is_predicate(self.texts[k])

    def rows(self, k: int, count: int) -> list[Any]:
        """The rows of registers from operand k on; None for RZ."""
        kind, number = operands.register_number(self.texts[k].partition(".")[0])
        if number == operands.ZERO_REGISTER:
            return [None] * count
        table = self.state.registers if kind == "R" else self.state.uniforms
        return [table[number + n] for n in range(count)]

    def put(self, k: int = 0) -> Callable[[Any, Any], None]:
        """A function that writes 32 bits of each lane."""
        (row,) = self.rows(k, 1)

        def write(ix: Any, values: Any) -> None:
            if row is not None:
                row[ix] = np.asarray(values).view(np.uint32)

        return write

    def put64(self, k: int = 0) -> Callable[[Any, Any], None]:
        low, high = self.rows(k, 2)

        def write(ix: Any, values: Any) -> None:
            if low is not None:
                bits = np.asarray(values).view(np.uint64)
                low[ix] = bits.astype(np.uint32)
                high[ix] = (bits >> np.uint64(32)).astype(np.uint32)

        return write

    def put_predicate(self, k: int) -> Callable[[Any, Any], None]:
        kind, number, _ = operands.predicate_number(self.texts[k])
        table = self.state.uniform_predicates if kind == "UP" else self.state.predicates
        row = table[number]

        def write(ix: Any, values: Any) -> None:
            if number != operands.TRUE:
                row[ix] = values

        return write
