"""Instructions that move bits, and choose by predicates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass.builder import Builder, Work
from sass.integers import unary
from sass.numbers import F64, S32, S64, U32, U64, wide


def _popcount(values: Any) -> Any:
    return np.bitwise_count(values).astype(U32)


def _reversed_bits(values: Any) -> Any:
    result = np.zeros_like(values)
    for k in range(32):
        result |= (values >> U32(k) & U32(1)) << U32(31 - k)
    return result


def lop3(b: Builder) -> Work:
    """d (or p and d), a, b, c, table: eight bits, the results for all values of three bits."""
    has_predicate = b.is_predicate(0)
    at = 2 if has_predicate else 1
    table = int(b.texts[at + 3], 0)
    gets = [b.u32(at + k) for k in range(3)]
    put = b.put(at - 1)
    put_predicate = b.put_predicate(0) if has_predicate else None

    def work(g: Any) -> None:
        ix = b.lanes(g)
        x, y, z = (np.asarray(get(ix)) for get in gets)
        result: Any = U32(0)
        for k in range(8):
            if table >> k & 1:
                result = result | (x if k & 4 else ~x) & (y if k & 2 else ~y) & (z if k & 1 else ~z)
        put(ix, np.broadcast_to(result, np.shape(result)))
        if put_predicate is not None:
            put_predicate(ix, result != 0)

    return work


def plop3(b: Builder) -> Work:
    gets = [b.predicate(k) for k in (2, 3, 4)]
    tables = [int(b.texts[k], 0) for k in (5, 6)]
    puts = [b.put_predicate(0), b.put_predicate(1)]

    def work(g: Any) -> None:
        ix = b.lanes(g)
        x, y, z = (np.asarray(get(ix)) for get in gets)
        index = x.astype(np.int64) * 4 + y.astype(np.int64) * 2 + z
        for put, table in zip(puts, tables, strict=True):
            put(ix, table >> index & 1 != 0)

    return work


def shf(b: Builder) -> Work:
    """d, low, shift, high: shifts 64 bits and keeps the lower half, or with HI the upper."""
    left, high = b.has("L"), b.has("HI")
    kind = next((m for m in ("S32", "U32", "S64", "U64") if b.has(m)), "U32")
    wrap = b.has("W")
    low, amount, upper = b.u32(1), b.u32(2), b.u32(3)
    put = b.put()
    # A shift of 32-bit values beyond 32 counts as 32, of 64-bit values as 64.
    most = 64 if kind in ("S64", "U64") else 32

    def work(g: Any) -> None:
        ix = b.lanes(g)
        by = wide(amount(ix))
        by = by & U64(most - 1) if wrap else np.minimum(by, U64(most))
        value = wide(low(ix)) | wide(upper(ix)) << U64(32)
        if left:
            shifted = np.where(by >= U64(64), U64(0), value << np.minimum(by, U64(63)))
        elif kind[0] == "S":
            shifted = (value.view(S64) >> np.minimum(by, U64(63)).astype(S64)).view(U64)
        else:
            shifted = np.where(by >= U64(64), U64(0), value >> np.minimum(by, U64(63)))
        # Without HI, a left shift keeps the lower half; with HI, the upper one.
        put(ix, (shifted >> U64(32) if high else shifted).astype(U32))

    return work


def prmt(b: Builder) -> Work:
    first, selection, second = b.u32(1), b.u32(2), b.u32(3)
    put = b.put()

    def work(g: Any) -> None:
        ix = b.lanes(g)
        both = wide(first(ix)) | wide(second(ix)) << U64(32)
        chosen = wide(selection(ix))
        result: Any = U64(0)
        for k in range(4):
            code = chosen >> U64(4 * k) & U64(15)
            byte = both >> (code & U64(7)) * U64(8) & U64(255)
            byte = np.where(code & U64(8), np.where(byte & U64(128), U64(255), U64(0)), byte)
            result = result | byte << U64(8 * k)
        put(ix, np.asarray(result).astype(U32))

    return work


def select(kind: str) -> Callable[[Builder], Work]:
    def build(b: Builder) -> Work:
        first, second = getattr(b, kind)(1), getattr(b, kind)(2)
        choice, put = b.predicate(3), b.put()

        def work(g: Any) -> None:
            ix = b.lanes(g)
            put(ix, np.where(choice(ix), first(ix), second(ix)))

        return work

    return build


def flo(b: Builder) -> Work:
    """The position of the highest significant bit; SH: its distance from the top."""
    signed = not b.has("U32")
    from_top = b.has("SH")
    get, put = b.u32(1 if not b.is_predicate(1) else 2), b.put()

    def work(g: Any) -> None:
        ix = b.lanes(g)
        values = np.asarray(get(ix))
        if signed:
            values = np.where(values.view(S32) < 0, ~values, values)
        place = np.floor(np.log2(np.maximum(values, 1).astype(F64))).astype(S64)
        result = np.where(values == 0, -1, 31 - place if from_top else place)
        put(ix, result.astype(S32))

    return work


def p2r(b: Builder) -> Work:
    """Predicates as bits of a register, in the positions of a mask."""
    old, mask = b.u32(2), int(b.texts[3], 0)
    put = b.put()
    predicates = b.state.predicates

    def work(g: Any) -> None:
        bits: Any = U32(0)
        for k in range(7):
            bits = bits | predicates[k][g.ix].astype(U32) << U32(k)
        put(g.ix, np.asarray(old(g.ix)) & U32(~mask & 0xFFFFFFFF) | bits & U32(mask))

    return work


def r2p(b: Builder) -> Work:
    get, mask = b.u32(1), int(b.texts[2], 0)
    predicates = b.state.predicates

    def work(g: Any) -> None:
        bits = np.asarray(get(g.ix))
        for k in range(7):
            if mask >> k & 1:
                predicates[k][g.ix] = bits >> U32(k) & U32(1) != 0

    return work


BITS: dict[str, Callable[[Builder], Work]] = {
    "LOP3": lop3, "ULOP3": lop3, "PLOP3": plop3, "UPLOP3": plop3,
    "SHF": shf, "USHF": shf,
    "PRMT": prmt, "UPRMT": prmt,
    "SEL": select("u32"), "USEL": select("u32"), "FSEL": select("f32"),
    "POPC": unary("u32", _popcount), "UPOPC": unary("u32", _popcount),
    "BREV": unary("u32", _reversed_bits), "UBREV": unary("u32", _reversed_bits),
    "FLO": flo, "UFLO": flo,
    "P2R": p2r, "R2P": r2p,
}  # fmt: skip
