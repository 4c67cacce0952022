"""Instructions that compute with floats and doubles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass.builder import Builder, Work
from sass.integers import COMBINE, COMPARE
from sass.numbers import F32, F64, U32, U64, wide

TINY = F32(2.0**-126)


def flush(values: Any) -> Any:
    """Flushes denormal numbers to zeros of their sign."""
    return np.where(np.abs(values) < TINY, np.copysign(F32(0), values), values)


def _ordered(name: str) -> Callable[[Any, Any], Any]:
    """Comparisons of floats: NE with a NaN is false; a U makes it true."""
    if name in ("NUM", "NAN"):
        both = lambda x, y: ~(np.isnan(x) | np.isnan(y))  # noqa: E731
        return both if name == "NUM" else (lambda x, y: ~both(x, y))
    unordered = name.endswith("U")
    bare = COMPARE[name[:2]]
    if unordered:
        return lambda x, y: bare(x, y) | np.isnan(x) | np.isnan(y)
    return lambda x, y: bare(x, y) & ~(np.isnan(x) | np.isnan(y))


def float_setp(kind: str) -> Callable[[Builder], Work]:
    def build(b: Builder) -> Work:
        if b.has("MAX", "MIN"):
            return _larger_or_smaller(b)
        name = next(m for m in b.modifiers if m[:2] in COMPARE or m in ("NUM", "NAN"))
        combine = COMBINE[next(m for m in b.modifiers if m in COMBINE)]
        first, second, other = getattr(b, kind)(2), getattr(b, kind)(3), b.predicate(4)
        compare = _ordered(name)
        puts = b.put_predicate(0), b.put_predicate(1)
        flushed = b.has("FTZ")

        def work(g: Any) -> None:
            ix = b.lanes(g)
            x, y = first(ix), second(ix)
            if flushed:
                x, y = flush(x), flush(y)
            result, combined = compare(x, y), other(ix)
            puts[0](ix, combine(result, combined))
            puts[1](ix, combine(~result, combined))

        return work

    return build


def _larger_or_smaller(b: Builder) -> Work:
    """DSETP.MAX p, q, a, b: p is whether a is taken, q whether both are NaN."""
    first, second = b.f64(2), b.f64(3)
    puts = b.put_predicate(0), b.put_predicate(1)
    largest = b.has("MAX")

    def work(g: Any) -> None:
        x, y = first(g.ix), second(g.ix)
        puts[0](g.ix, (x > y if largest else x < y) | np.isnan(y))
        puts[1](g.ix, np.isnan(x) & np.isnan(y))

    return work


def _floats(b: Builder, result: Callable[[Any], Any]) -> Work:
    put = b.put()
    flushed, saturated = b.has("FTZ"), b.has("SAT")

    def work(g: Any) -> None:
        values = np.asarray(result(g.ix))
        if flushed:
            values = flush(values)
        if saturated:
            values = np.where(np.isnan(values), F32(0), np.clip(values, F32(0), F32(1)))
        put(g.ix, values.astype(F32))

    return work


def fadd(b: Builder) -> Work:
    first, second = b.f32(1), b.f32(2)
    return _floats(b, lambda ix: first(ix) + second(ix))


def fmul(b: Builder) -> Work:
    first, second = b.f32(1), b.f32(2)
    return _floats(b, lambda ix: first(ix) * second(ix))


def ffma(b: Builder) -> Work:
    first, second, third = b.f32(1), b.f32(2), b.f32(3)

    rounding = next((m for m in ("RM", "RP", "RZ") if b.has(m)), "RN")

    def result(ix: Any) -> Any:
        product = np.asarray(first(ix)).astype(F64) * second(ix)
        return rounded(product + third(ix), rounding)

    return _floats(b, result)


def rounded(values: Any, rounding: str) -> Any:
    """Rounds numbers of a wider type to float32: to the nearest, down, up or towards zero."""
    nearest = np.asarray(values).astype(F32)
    if rounding == "RN":
        return nearest
    above, below = nearest > values, nearest < values
    if rounding == "RZ":
        above, below = above & (nearest > 0), below & (nearest < 0)
    down = np.where(above & (rounding != "RP"), np.nextafter(nearest, F32(-np.inf)), nearest)
    return np.where(below & (rounding != "RM"), np.nextafter(down, F32(np.inf)), down)


def fmnmx(b: Builder) -> Work:
    first, second, least = b.f32(1), b.f32(2), b.predicate(3)

    def result(ix: Any) -> Any:
        x, y = first(ix), second(ix)
        if b.has("NAN"):
            return np.where(least(ix), np.minimum(x, y), np.maximum(x, y))
        return np.where(least(ix), np.fmin(x, y), np.fmax(x, y))

    return _floats(b, result)


MUFU: dict[str, Callable[[Any], Any]] = {
    "EX2": np.exp2,
    "LG2": np.log2,
    "RCP": lambda x: 1 / x,
    "RSQ": lambda x: 1 / np.sqrt(x),
    "SQRT": np.sqrt,
}


def mufu(b: Builder) -> Work:
    if b.has("RCP64H"):
        # The upper half of an approximate reciprocal of a double.
        get, put = b.u32(1), b.put()

        def upper(g: Any) -> None:
            values = (wide(get(g.ix)) << U64(32)).view(F64)
            put(g.ix, ((1 / values).view(U64) >> U64(32)).astype(U32))

        return upper
    function = MUFU[next(m for m in b.modifiers if m in MUFU)]
    first = b.f32(1)
    return _floats(b, lambda ix: function(np.asarray(first(ix)).astype(F64)).astype(F32))


def double(function: Callable[..., Any], count: int) -> Callable[[Builder], Work]:
    def build(b: Builder) -> Work:
        gets, put = [b.f64(k + 1) for k in range(count)], b.put64()
        return lambda g: put(g.ix, np.asarray(function(*(get(g.ix) for get in gets))))

    return build


def fchk(b: Builder) -> Work:
    """Whether a division needs the slow path: exponents near the ends of the range."""
    first, second, put = b.f32(1), b.f32(2), b.put_predicate(0)

    def work(g: Any) -> None:
        x, y = np.abs(first(g.ix)), np.abs(second(g.ix))
        normal = lambda v: (v > F32(2.0**-120)) & (v < F32(2.0**120))  # noqa: E731
        quotient = x.astype(F64) / y
        fine = (
            normal(y)
            & (normal(x) | (x == 0))
            & ((x == 0) | (quotient > 2.0**-120) & (quotient < 2.0**120))
        )
        put(g.ix, ~fine)

    return work


def frnd(b: Builder) -> Work:
    first = b.f32(1)
    names = (("TRUNC", np.trunc), ("FLOOR", np.floor), ("CEIL", np.ceil))
    rounding = next((f for m, f in names if b.has(m)), np.rint)
    return _floats(b, lambda ix: rounding(first(ix)))


FLOATS: dict[str, Callable[[Builder], Work]] = {
    "FSETP": float_setp("f32"), "DSETP": float_setp("f64"),
    "FADD": fadd, "FMUL": fmul, "FFMA": ffma, "FMNMX": fmnmx, "MUFU": mufu, "FCHK": fchk,
    "FRND": frnd,
    "DADD": double(np.add, 2), "DMUL": double(np.multiply, 2),
    "DFMA": double(lambda x, y, z: x * y + z, 3),
}  # fmt: skip
