"""Instructions by which the lanes of a warp exchange values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass.builder import Builder, Work


def shuffle(b: Builder) -> Work:
    """SHFL p, d, a, by, limits."""
    mode = next(m for m in b.modifiers if m in ("IDX", "UP", "DOWN", "BFLY"))
    value, by, limits = b.u32(2), b.u32(3), b.u32(4)
    put, put_predicate = b.put(1), b.put_predicate(0)

    def work(g: Any) -> None:
        lane = g.columns % 32
        amount = np.broadcast_to(np.asarray(by(g.ix)), lane.shape).astype(np.int64)
        limit = np.broadcast_to(np.asarray(limits(g.ix)), lane.shape).astype(np.int64)
        segment, clamp = limit >> 8 & 31, limit & 31
        bound = lane & segment | clamp & ~segment
        if mode == "IDX":
            source = lane & segment | amount & 31 & ~segment
        elif mode == "UP":
            source = lane - amount
        elif mode == "DOWN":
            source = lane + amount
        else:
            source = lane ^ amount
        inside = source >= bound if mode == "UP" else source <= bound
        source = np.where(inside, source, lane)
        present = g.masks >> source.astype(np.uint32) & np.uint32(1)
        if not present.all():
            raise RuntimeError(f"{b.instruction.text}: reads a lane that is not there")
        held = np.zeros(g.total, np.uint32)
        held[g.ix] = value(g.ix)
        put(g.ix, held[g.columns - lane + source])
        put_predicate(g.ix, inside)

    return work


def _votes(g: Any, holds: Any) -> Any:
    """For each warp here, the mask of lanes for which `holds` is true."""
    bits = np.where(holds, np.uint32(1) << (g.columns % 32).astype(np.uint32), np.uint32(0))
    return np.bitwise_or.reduceat(bits.astype(np.uint32), g.first)


def vote(b: Builder) -> Work:
    """VOTE d, p, a: the lanes for which a holds, and whether it holds for all or any."""
    everybody = b.has("ALL")
    uniform = b.instruction.name == "VOTEU"
    at = 0 if b.is_predicate(0) else 1
    put = b.put(0) if at == 1 else None
    put_predicate, get = b.put_predicate(at), b.predicate(at + 1)

    def work(g: Any) -> None:
        votes = _votes(g, np.broadcast_to(get(g.ix), g.columns.shape))
        result = votes == g.masks[g.first] if everybody else votes != 0
        sizes = np.diff(np.append(g.first, g.count))
        if uniform:
            ix = g.whole.ix
            spread = lambda values: np.repeat(values, 32)  # noqa: E731
        else:
            ix = g.ix
            spread = lambda values: np.repeat(values, sizes)  # noqa: E731
        if put is not None:
            put(ix, spread(votes))
        put_predicate(ix, spread(result))

    return work


def match(b: Builder) -> Work:
    """MATCH.ANY d, a: the lanes that hold the same value."""
    if not b.has("ANY"):
        raise NotImplementedError(b.instruction.text)
    at = len(b.texts) - 1
    get, put = (b.u64(at) if b.has("U64") else b.u32(at)), b.put()

    def work(g: Any) -> None:
        values = np.zeros(g.total, np.uint64)
        values[g.ix] = get(g.ix)
        here = np.zeros(g.total, bool)
        here[g.ix] = True
        rows = g.whole.columns.reshape(-1, 32)
        of_warp, present = values[rows], here[rows]
        alike = (of_warp[:, :, None] == of_warp[:, None, :]) & present[:, None, :]
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        masks = np.zeros(g.total, np.uint32)
        masks[rows] = np.bitwise_or.reduce(np.where(alike, bits, 0), 2).astype(np.uint32)
        put(g.ix, masks[g.columns])

    return work


def redux(b: Builder) -> Work:
    signed = b.has("S32")
    operation: Any = next(
        f for m, f in (("SUM", np.add), ("OR", np.bitwise_or), ("AND", np.bitwise_and),
                       ("MAX", np.maximum), ("MIN", np.minimum)) if b.has(m)
    ) if b.modifiers else np.add  # fmt: skip
    get, put = b.u32(1), b.put()

    def work(g: Any) -> None:
        values = np.broadcast_to(np.asarray(get(g.ix)), g.columns.shape)
        values = values.view(np.int32) if signed else values
        result = operation.reduceat(np.ascontiguousarray(values), g.first)
        put(g.whole.ix, np.repeat(result, 32))

    return work


def to_uniform(b: Builder) -> Work:
    """R2UR: the value of the first lane here."""
    at = len(b.texts) - 1
    get, put = b.u32(at), b.put()
    put_predicate = b.put_predicate(1) if b.is_predicate(1) else None
    if put_predicate is not None:
        raise NotImplementedError(b.instruction.text)

    def work(g: Any) -> None:
        values = np.broadcast_to(np.asarray(get(g.ix)), g.columns.shape)
        put(g.whole.ix, np.repeat(values[g.first], 32))

    return work


WARPS: dict[str, Callable[[Builder], Work]] = {
    "SHFL": shuffle, "VOTE": vote, "VOTEU": vote, "MATCH": match, "REDUX": redux,
    "R2UR": to_uniform,
}  # fmt: skip
