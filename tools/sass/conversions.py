"""Instructions that convert between kinds of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass.builder import Builder, Work
from sass.floats import rounded
from sass.numbers import F32, F64, S32, S64, U32, U64
from sass.operands import half_selection

KINDS = {"U8": np.uint8, "S8": np.int8, "U16": np.uint16, "S16": np.int16, "U32": U32,
            "S32": S32, "U64": U64, "S64": S64}  # fmt: skip


def i2f(b: Builder) -> Work:
    """I2F and I2FP: the float's type comes first, then the integer's."""
    kinds = [m for m in b.modifiers if m in KINDS]
    kind = kinds[-1] if kinds else "S32"
    wide = kind in ("U64", "S64")
    double_result, up = b.has("F64"), b.has("RP")
    at = len(b.texts) - 1
    get = b.u64(at) if wide else b.u32(at)
    put: Any = b.put64() if double_result else b.put()
    float_type: Any = F64 if double_result else F32

    def work(g: Any) -> None:
        ix = b.lanes(g)
        values = np.asarray(get(ix))
        integers = values.view(KINDS[kind]) if wide else values.astype(KINDS[kind])
        if up:
            put(ix, rounded(integers.astype(np.longdouble), "RP"))
        else:
            put(ix, integers.astype(float_type))

    return work


def f2i(b: Builder) -> Work:
    kinds = [m for m in b.modifiers if m in KINDS]
    kind: Any = KINDS[kinds[-1] if kinds else "S32"]
    double_source = b.has("F64")
    get = b.f64(1) if double_source else b.f32(1)
    wide = np.dtype(kind).itemsize == 8
    put: Any = b.put64() if wide else b.put()
    rounding = next(
        (f for m, f in (("TRUNC", np.trunc), ("FLOOR", np.floor), ("CEIL", np.ceil)) if b.has(m)),
        np.rint,
    )
    limits = np.iinfo(kind)

    def work(g: Any) -> None:
        values = rounding(np.asarray(get(g.ix)).astype(F64))
        inside = np.clip(values, float(limits.min), np.nextafter(float(limits.max) + 1, 0))
        put(g.ix, np.where(np.isnan(values), 0, inside).astype(kind))

    return work


def f2f(b: Builder) -> Work:
    """Converts between float, double and half."""
    target, source = [m for m in b.modifiers if m in ("F16", "F32", "F64", "BF16")][:2]
    if source == "F64":
        get64, put = b.f64(1), b.put()
        return lambda g: put(g.ix, np.asarray(get64(g.ix)).astype(F32))
    get = b.f32(1)
    if target == "F64":
        put64 = b.put64()
        return lambda g: put64(g.ix, np.asarray(get(g.ix)).astype(F64))
    if target == "F16":
        put16 = b.put()
        return lambda g: put16(
            g.ix, np.asarray(get(g.ix)).astype(np.float16).view(np.uint16).astype(U32)
        )
    raise NotImplementedError(b.instruction.text)


def to_bfloat16(values: Any) -> Any:
    bits = np.asarray(values, F32).view(U32)
    rounded = (bits + U32(0x7FFF) + (bits >> U32(16) & U32(1))) >> U32(16)
    return np.where(np.isnan(values), U32(0x7FFF), rounded).astype(U32)


def f2fp(b: Builder) -> Work:
    """PACK_AB: two floats as halves or bfloat16, the second one in the lower half."""
    high, low, put = b.f32(1), b.f32(2), b.put()
    if b.has("BF16"):
        half = to_bfloat16
    else:
        half = lambda v: np.asarray(v, F32).astype(np.float16).view(np.uint16).astype(U32)  # noqa: E731
    return lambda g: put(g.ix, half(high(g.ix)) << U32(16) | half(low(g.ix)))


def hadd2(b: Builder) -> Work:
    """HADD2.F32 d, -RZ, a.H0_H0: a half as a float."""
    if not b.has("F32"):
        raise NotImplementedError(b.instruction.text)
    text, half = half_selection(b.texts[2])
    get = Builder(b.machine, b.with_operands((text,))).u32(0)
    put, upper = b.put(), half == "H1_H1"

    def work(g: Any) -> None:
        bits = np.asarray(get(g.ix))
        bits = bits >> U32(16) if upper else bits
        put(g.ix, bits.astype(np.uint16).view(np.float16).astype(F32))

    return work


def hfma2(b: Builder) -> Work:
    """HFMA2.MMA d, -RZ, RZ, x, y: writes two constant halves, x above y."""
    if b.texts[1].lstrip("-") != "RZ" or b.texts[2].lstrip("-") != "RZ":
        raise NotImplementedError(b.instruction.text)
    halves = []
    for text in b.texts[3:5]:
        halves.append(int(text, 16) if "0x" in text else int(np.float16(text).view(np.uint16)))
    constant, put = U32(halves[0] << 16 | halves[1]), b.put()
    return lambda g: put(g.ix, constant)


CONVERSIONS: dict[str, Callable[[Builder], Work]] = {
    "I2F": i2f, "I2FP": i2f, "F2I": f2i, "F2F": f2f, "F2FP": f2fp, "HADD2": hadd2, "HFMA2": hfma2,
}  # fmt: skip
