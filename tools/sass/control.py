"""Instructions of control flow: branches, barriers, calls, exits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass import operands
from sass.builder import Builder

# (machine, group, those whose guard holds, place) -> the next place of the whole group, or None
Control = Callable[[Any, Any, Any, int], "int | None"]


def _target(b: Builder) -> int:
    text = b.texts[-1].strip("`()")
    index: int = b.machine.index_of[int(text, 16)]
    return index


def bra(b: Builder) -> Control:
    """BRA, possibly with a predicate of its own, and CALL, whose return address the program stores.
    BRA.DIV takes a slower path for lanes that have diverged; here they wait for each other."""
    if b.has("DIV"):
        return warpsync(b)
    target = _target(b)
    condition = b.predicate(0) if b.is_predicate(0) else None
    if b.is_predicate(1):
        raise NotImplementedError(b.instruction.text)

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if condition is not None and taken.count:
            taken = taken.where(np.asarray(condition(taken.ix)))
        if taken.count == group.count:
            return target
        if taken.count == 0:
            return pc + 1
        machine.pc[group.ix] = pc + 1
        machine.pc[taken.ix] = target
        return None

    return control


def jump(b: Builder) -> Control:
    """RET and BRX: jump to the address in a register pair, counted from the start of the function
    or, for BRX, from the next instruction plus an offset."""
    register, _, offset = b.texts[0].partition(" ")
    pair = operands.u64(b.state, register)
    added = 0
    if b.instruction.name == "BRX":
        added = b.instruction.address + 16 + int(offset, 0)

    def address(ix: Any) -> Any:
        return np.asarray(pair(ix)).view(np.int64) + added

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if taken.count:
            for columns, to in _by_value(taken, np.asarray(address(taken.ix))):
                machine.pc[columns] = machine.index_of[to]
        rest = np.setdiff1d(group.columns, taken.columns)
        machine.pc[rest] = pc + 1
        return None

    return control


def _by_value(group: Any, values: Any) -> list[tuple[Any, int]]:
    return [(group.columns[values == value], int(value)) for value in np.unique(values)]


def end(b: Builder) -> Control:
    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        machine.pc[group.ix] = pc + 1
        machine.status[taken.ix] = 3  # EXITED
        if taken.count:
            machine.release_warps(taken)
        return None

    return control


def barrier(b: Builder) -> Control:
    if b.texts and b.texts[0] not in ("0x0", "0"):
        raise NotImplementedError(b.instruction.text)

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        machine.pc[group.ix] = pc + 1
        machine.pc[taken.ix] = pc
        machine.status[taken.ix] = 1  # AT_BARRIER
        return None

    return control


def bssy(b: Builder) -> Control:
    row = b.state.barriers[int(b.texts[0][1:])]

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if taken.count:
            row[taken.ix] = taken.masks
        return pc + 1

    return control


def bsync(b: Builder) -> Control:
    row = b.state.barriers[int(b.texts[0][1:])]

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if taken.count != group.count:
            if taken.count == 0:
                return pc + 1
            rest = np.setdiff1d(group.columns, taken.columns)
            machine.pc[rest] = pc + 1
            waits = machine.wait_together(taken, pc, row[taken.ix])
            if waits is not None:
                machine.pc[taken.ix] = waits
            return None
        following: int | None = machine.wait_together(group, pc, row[group.ix])
        return following

    return control


def leave(b: Builder) -> Control:
    """BREAK: other lanes no longer wait for these."""
    row = b.state.barriers[int(b.texts[-1][1:])]
    condition = b.predicate(0) if b.is_predicate(0) else None

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if condition is not None and taken.count:
            taken = taken.where(np.asarray(condition(taken.ix)))
        if taken.count:
            whole = taken.whole
            masks = taken.masks[taken.first]
            row[whole.ix] &= (
                ~whole.spread(masks) if taken.count != taken.total else ~np.repeat(masks, 32)
            )
            # Also in what lanes already wait for.
            waiting = machine.waits_for
            waiting[whole.ix] &= ~np.repeat(masks, 32)
            machine.release_warps(taken)
        return pc + 1

    return control


def warpsync(b: Builder) -> Control:
    if b.has("COLLECTIVE"):
        return unreachable(b)
    everybody = b.has("ALL") or not b.texts
    mask = None if everybody else operands.u32(b.state, b.texts[0])

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        if taken.count != group.count:
            raise NotImplementedError(b.instruction.text)
        wanted = np.uint32(0xFFFFFFFF) if mask is None else mask(group.ix)
        masks = np.broadcast_to(wanted, group.columns.shape).astype(np.uint32)
        # Lanes that have exited do not count.
        whole = machine.status[group.whole.columns].reshape(-1, 32) == 3
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        gone = np.bitwise_or.reduce(np.where(whole, bits, 0), 1).astype(np.uint32)
        following: int | None = machine.wait_together(
            group, pc, masks & ~np.repeat(gone, np.diff(np.append(group.first, group.count)))
        )
        return following

    return control


def unreachable(b: Builder) -> Control:
    """Code after BRA.DIV."""

    def control(machine: Any, group: Any, taken: Any, pc: int) -> int | None:
        raise RuntimeError(f"{b.instruction.text} was reached")

    return control


def nothing(b: Builder) -> Control:
    return lambda machine, group, taken, pc: pc + 1


CONTROL: dict[str, Callable[[Builder], Control]] = {
    "BRA": bra, "CALL": bra, "RET": jump, "BRX": jump, "EXIT": end, "BAR": barrier,
    "BSSY": bssy, "BSYNC": bsync, "BREAK": leave, "WARPSYNC": warpsync,
    "NOP": nothing, "YIELD": nothing, "MEMBAR": nothing, "ERRBAR": nothing, "CCTL": nothing,
    "CGAERRBAR": nothing, "LDGDEPBAR": nothing, "DEPBAR": nothing, "ARRIVES": nothing,
    "ENDCOLLECTIVE": unreachable,
}  # fmt: skip
