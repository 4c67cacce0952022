"""Instructions that move data: from constants, special registers, global and shared memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass import operands
from sass.builder import Builder, Work
from sass.memory import wavefronts

NARROW = {"U8": "u1", "S8": "i1", "U16": "u2", "S16": "i2"}


def _size(b: Builder) -> tuple[str, int]:
    """(type, words) that each lane moves."""
    for modifier, dtype in NARROW.items():
        if b.has(modifier):
            return dtype, 1
    return "u4", 4 if b.has("128") else 2 if b.has("64") else 1


def _extended(values: Any) -> Any:
    signed = np.issubdtype(values.dtype, np.signedinteger)
    return values.astype(np.int32).view(np.uint32) if signed else values.astype(np.uint32)


def _write(rows: list[Any], ix: Any, values: Any) -> None:
    for row, value in zip(rows, values, strict=True):
        if row is not None:
            row[ix] = _extended(value)


def _read(rows: list[Any], ix: Any, count: int, dtype: str) -> Any:
    values = [np.zeros(count, np.uint32) if row is None else row[ix] for row in rows]
    return np.stack(values).astype(dtype)


def constant(b: Builder) -> Work:
    if b.has("64"):
        get64, put64 = b.u64(1), b.put64()
        return lambda g: put64(b.lanes(g), get64(b.lanes(g)))
    if b.has("128"):
        raise NotImplementedError(b.instruction.text)
    get, put = b.u32(1), b.put()
    narrow = next((np.dtype(dtype) for modifier, dtype in NARROW.items() if b.has(modifier)), None)
    if narrow is not None:
        whole, kind = get, narrow

        def get(ix: Any) -> Any:
            return _extended(np.asarray(whole(ix)).astype(kind))

    return lambda g: put(b.lanes(g), get(b.lanes(g)))


def special(b: Builder) -> Work:
    """S2R, S2UR, CS2R."""
    name = b.texts[1]
    machine = b.machine
    x, y, _ = machine.launch.block
    thread = machine.thread_of
    grid_x, grid_y, _ = machine.launch.grid
    block = np.asarray(machine.blocks, np.int64)[machine.block_of]
    values = {
        "SR_TID.X": thread % x, "SR_TID.Y": thread // x % y, "SR_TID.Z": thread // (x * y),
        "SR_CTAID.X": block % grid_x, "SR_CTAID.Y": block // grid_x % grid_y,
        "SR_CTAID.Z": block // (grid_x * grid_y), "SR_LANEID": thread % 32,
        "SR_CgaCtaId": 0 * thread, "SRZ": 0 * thread,
        # Above all addresses of this process: the upper half of generic pointers to shared memory.
        "SR_SWINHI": 0 * thread + 0x1000000,
        "SR_LEMASK": (2 << thread % 32) - 1, "SR_LTMASK": (1 << thread % 32) - 1,
    }  # fmt: skip
    row = values[name].astype(np.uint32)
    uniform = b.texts[0].startswith("U")
    puts = [b.put()] if not (b.instruction.name == "CS2R" and not b.has("32")) else []
    both = b.put64() if not puts else None

    def work(g: Any) -> None:
        ix = g.whole.ix if uniform else g.ix
        if both is not None:
            both(ix, row[ix].astype(np.uint64))
        else:
            puts[0](ix, row[ix])

    return work


def load_global(b: Builder) -> Work:
    dtype, words = _size(b)
    at = 1 if not b.is_predicate(1) else 2
    place, rows = operands.Place(b.state, b.texts[at]), b.rows(0, words)
    machine, size = b.machine, np.dtype(dtype).itemsize * words

    def work(g: Any) -> None:
        addresses = place(g.ix, g.count)
        machine.traffic.loads.note(g.warps, addresses, size)
        _write(rows, g.ix, machine.memory.load(addresses, dtype, words))

    return work


def store_global(b: Builder) -> Work:
    dtype, words = _size(b)
    place, rows = operands.Place(b.state, b.texts[0]), b.rows(1, words)
    machine, size = b.machine, np.dtype(dtype).itemsize * words

    def work(g: Any) -> None:
        addresses = place(g.ix, g.count)
        machine.traffic.stores.note(g.warps, addresses, size)
        machine.memory.store(addresses, _read(rows, g.ix, g.count, dtype), dtype)

    return work


def _shared_places(b: Builder, k: int, size: int) -> Callable[[Any], Any]:
    place, machine = operands.Place(b.state, b.texts[k]), b.machine

    def places(g: Any) -> Any:
        addresses = place(g.ix, g.count)
        machine.traffic.wavefronts += wavefronts(g.warps, addresses, size)
        return machine.shared.places(addresses, machine.block_of[g.ix], size)

    return places


def load_shared(b: Builder) -> Work:
    dtype, words = _size(b)
    places = _shared_places(b, 1, np.dtype(dtype).itemsize * words)
    rows, machine = b.rows(0, words), b.machine
    return lambda g: _write(rows, g.ix, machine.shared.load(places(g), dtype, words))


def store_shared(b: Builder) -> Work:
    dtype, words = _size(b)
    places = _shared_places(b, 0, np.dtype(dtype).itemsize * words)
    rows, machine = b.rows(1, words), b.machine

    def work(g: Any) -> None:
        machine.shared.store(places(g), _read(rows, g.ix, g.count, dtype), dtype)

    return work


def copy(b: Builder) -> Work:
    """LDGSTS: copies global memory to shared memory, here at once."""
    dtype, words = _size(b)
    size = np.dtype(dtype).itemsize * words
    places, source = _shared_places(b, 0, size), operands.Place(b.state, b.texts[1])
    machine = b.machine

    def work(g: Any) -> None:
        addresses = source(g.ix, g.count)
        machine.traffic.loads.note(g.warps, addresses, size)
        machine.shared.store(places(g), machine.memory.load(addresses, dtype, words), dtype)

    return work


def _operation(b: Builder) -> Any:
    named = {"ADD": np.add, "INC": np.add, "OR": np.bitwise_or, "AND": np.bitwise_and,
             "MAX": np.maximum, "MIN": np.minimum}  # fmt: skip
    return next(function for name, function in named.items() if b.has(name))


def atomic_shared(b: Builder) -> Work:
    """ATOMS.ADD, ATOMS.OR, ...: lanes take turns. POPC.INC counts the lanes."""
    wide = b.has("64")
    at = 1
    increment = b.has("POPC")
    places = _shared_places(b, at, 8 if wide else 4)
    if b.has("CAS", "CAST"):
        raise NotImplementedError(b.instruction.text)
    operation = _operation(b)
    value = None if increment else (b.u64(at + 1) if wide else b.u32(at + 1))
    rows, machine = b.rows(0, 2 if wide else 1), b.machine

    def work(g: Any) -> None:
        dtype: Any = np.uint64 if wide else np.uint32
        memory = machine.shared.bytes.view(dtype)
        index = places(g) // memory.itemsize
        given = dtype(1) if value is None else value(g.ix)
        if rows[0] is not None:
            # What each lane finds, including the values of the lanes before it.
            given = np.broadcast_to(given, index.shape)
            found = np.empty(index.shape, dtype)
            for k in range(len(index)):
                found[k] = memory[index[k]]
                memory[index[k]] = operation(memory[index[k]], given[k])
            rows[0][g.ix] = found.astype(np.uint32)
        else:
            operation.at(memory, index, given)

    return work


def atomic_global(b: Builder) -> Work:
    at = next(k for k, text in enumerate(b.texts) if "[" in text)
    if b.has("INC") and not b.has("64"):
        return _increment_global(b, at)
    if b.rows(at - 1, 1)[0] is not None:
        raise NotImplementedError(b.instruction.text)
    return _reduce_global(b, at)


def reduce_global(b: Builder) -> Work:
    return _reduce_global(b, 0)


def _increment_global(b: Builder, at: int) -> Work:
    """ATOMG.INC: lanes take turns, from zero to the operand and back to zero.

    If only some blocks of a launch are run, all counts are equally likely: other blocks come before
    or after them.
    """
    place, most = operands.Place(b.state, b.texts[at]), b.u32(at + 1)
    row, machine = b.rows(at - 1, 1)[0], b.machine

    def work(g: Any) -> None:
        addresses = place(g.ix, g.count)
        machine.traffic.stores.note(g.warps, addresses, 4)
        limits = np.broadcast_to(most(g.ix), addresses.shape).astype(np.uint32)
        found = np.empty(addresses.shape, np.uint32)
        for k in range(len(addresses)):
            count = machine.memory.load(addresses[k : k + 1], "u4", 1)
            found[k] = machine.drawn(int(limits[k])) if machine.is_part else count[0, 0]
            count[:] = found[k] + 1 if found[k] < limits[k] else 0
            machine.memory.store(addresses[k : k + 1], count, "u4")
        if row is not None:
            row[g.ix] = found

    return work


def _reduce_global(b: Builder, at: int) -> Work:
    """An atomic operation whose old value is not used."""
    wide = b.has("64")
    operation = _operation(b)
    place = operands.Place(b.state, b.texts[at])
    value = b.u64(at + 1) if wide else b.u32(at + 1)
    machine, dtype = b.machine, "u8" if wide else "u4"

    def work(g: Any) -> None:
        addresses = place(g.ix, g.count)
        given = np.broadcast_to(value(g.ix), addresses.shape)
        machine.traffic.stores.note(g.warps, addresses, np.dtype(dtype).itemsize)
        distinct, which = np.unique(addresses, return_inverse=True)
        total = machine.memory.load(distinct, dtype, 1)[0].copy()
        operation.at(total, which, given.astype(dtype))
        machine.memory.store(distinct, total[None], dtype)

    return work


LOADS: dict[str, Callable[[Builder], Work]] = {
    "LDC": constant, "ULDC": constant,
    "S2R": special, "S2UR": special, "CS2R": special,
    "LDG": load_global, "LD": load_global, "STG": store_global, "ST": store_global,
    "LDS": load_shared, "STS": store_shared, "LDGSTS": copy,
    "ATOMS": atomic_shared,
    "RED": reduce_global, "REDG": reduce_global, "ATOMG": atomic_global,
}  # fmt: skip
