"""Instructions that compute with integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sass.builder import Builder, Work
from sass.numbers import S64, U32, U64, signed, wide
from sass.operands import Getter


def mov(b: Builder) -> Work:
    put, get = b.put(), b.u32(1)
    return lambda g: put(b.lanes(g), get(b.lanes(g)))


def _addend(b: Builder, text: str) -> tuple[Getter, int]:
    """-a is ~a plus one, so that carries come out right."""
    if text.startswith("-") and text[1] in "RUc":
        return Builder(b.machine, b.with_operands((f"~{text[1:]}",))).u32(0), 1
    return Builder(b.machine, b.with_operands((text,))).u32(0), 0


def iadd3(b: Builder) -> Work:
    """d, (carries out,) a, b, c(, carries in): X adds the carries in; -a counts as ~a plus one."""
    outs = 1
    while b.is_predicate(outs):
        outs += 1
    carries = [b.put_predicate(k) for k in range(1, outs)]
    texts = b.texts[outs : outs + 3]
    extended = b.has("X")
    gets, ones = [], 0
    for text in texts:
        get, one = _addend(b, text)
        gets.append(get)
        ones += one
    ins = [b.predicate(k) for k in range(outs + 3, len(b.texts))] if extended else []
    put = b.put()

    def work(g: Any) -> None:
        ix = b.lanes(g)
        total = wide(gets[0](ix)) + wide(gets[1](ix)) + wide(gets[2](ix)) + U64(ones)
        for carry in ins:
            total = total + wide(carry(ix))
        put(ix, total.astype(U32))
        over = total >> U64(32)
        for n, carry_out in enumerate(carries):
            carry_out(ix, over > U64(n))

    return work


def viadd(b: Builder) -> Work:
    first, second, put = b.u32(1), b.u32(2), b.put()
    return lambda g: put(g.ix, np.asarray(first(g.ix)) + np.asarray(second(g.ix)))


def imad(b: Builder) -> Work:
    """MOV, SHL and IADD are names for uses of it; WIDE adds 64 bits, HI takes the upper half."""
    unsigned = b.has("U32")
    outs = 1
    while b.is_predicate(outs):
        outs += 1
    carries = [b.put_predicate(k) for k in range(1, outs)]
    extend = wide if unsigned else (lambda v: signed(v).view(U64))
    first, second = b.u32(outs), b.u32(outs + 1)
    long, high = b.has("WIDE"), b.has("HI")
    third = b.u64(outs + 2) if long or high else b.u32(outs + 2)
    ins = [b.predicate(k) for k in range(outs + 3, len(b.texts))]
    put, put64 = b.put(), (b.put64() if long else None)

    def work(g: Any) -> None:
        ix = b.lanes(g)
        if not (long or high):
            total = np.asarray(first(ix)) * np.asarray(second(ix)) + third(ix)
            for carry in ins:
                total = total + np.asarray(carry(ix)).astype(U32)
            put(ix, total)
            return
        product = extend(first(ix)) * extend(second(ix))
        total = product + third(ix)
        for carry in ins:
            total = total + wide(carry(ix))
        for carry_out in carries:
            carry_out(ix, total < product)
        if put64 is not None:
            put64(ix, total)
        else:
            put(ix, (total >> U64(32)).astype(U32))

    return work


def lea(b: Builder) -> Work:
    """d, (carry,) a, b, (c of HI,) shift(, carry in of X): b + (a << shift), or the upper half."""
    outs = 1
    while b.is_predicate(outs):
        outs += 1
    carries = [b.put_predicate(k) for k in range(1, outs)]
    high, extended, sign = b.has("HI"), b.has("X"), b.has("SX32")
    texts = b.texts[outs:]
    negative = texts[0].startswith("-")
    low = Builder(b.machine, b.with_operands((texts[0].lstrip("-"),))).u32(0)
    second, one = _addend(b, texts[1])
    upper = b.u32(outs + 2) if high and not sign else None
    at = outs + (3 if high and not sign else 2)
    shift_text = b.texts[at]
    shift = int(shift_text, 0)
    carry_in = b.predicate(at + 1) if extended else None
    put = b.put()

    def work(g: Any) -> None:
        ix = b.lanes(g)
        value = wide(low(ix))
        if high:
            top = (
                wide(upper(ix))
                if upper is not None
                else (signed(low(ix)) >> S64(31)).view(U64) & U64(0xFFFFFFFF)
            )
            value = value | top << U64(32)
        if negative:
            value = U64(0) - value
        shifted = value << U64(shift)
        part = (shifted >> U64(32) if high else shifted) & U64(0xFFFFFFFF)
        total = part + wide(second(ix)) + U64(one)
        if carry_in is not None:
            total = total + wide(carry_in(ix))
        put(ix, total.astype(U32))
        for carry_out in carries:
            carry_out(ix, total >> U64(32) != 0)

    return work


def minimum_or_maximum(b: Builder) -> Work:
    """IMNMX and VIMNMX: d, a, b, which."""
    unsigned = b.has("U32")
    # d, p, p, a, b, which: p is whether b is taken, or as good. No reference documents this; the
    # results of kernels that use it show it.
    at = 3 if b.is_predicate(1) else 1
    taken = None
    if at == 3:
        if b.texts[1] != b.texts[2] or b.texts[-1] != "PT":
            raise NotImplementedError(b.instruction.text)
        taken = b.put_predicate(1)
    first, second = (b.u32(at), b.u32(at + 1)) if unsigned else (b.s32(at), b.s32(at + 1))
    last = len(b.texts) - 1
    least, put, relu = b.predicate(last), b.put(), b.has("RELU")

    def work(g: Any) -> None:
        ix = b.lanes(g)
        x, y = np.asarray(first(ix)), np.asarray(second(ix))
        result = np.where(least(ix), np.minimum(x, y), np.maximum(x, y))
        put(ix, np.maximum(result, 0) if relu else result)
        if taken is not None:
            taken(ix, x >= y)

    return work


def vimnmx3(b: Builder) -> Work:
    """VIADDMNMX: d, a, b, c, which: min or max of a + b and c."""
    first, second, third = b.s32(1), b.s32(2), b.s32(3)
    least, put = b.predicate(4), b.put()
    relu, unsigned = b.has("RELU"), b.has("U32")

    def work(g: Any) -> None:
        ix = b.lanes(g)
        x, y = np.asarray(first(ix)) + np.asarray(second(ix)), np.asarray(third(ix))
        if unsigned:
            x, y = x.view(U32), y.view(U32)
        result = np.where(least(ix), np.minimum(x, y), np.maximum(x, y))
        put(ix, np.maximum(result, 0) if relu else result)

    return work


def unary(kind: str, function: Callable[[Any], Any]) -> Callable[[Builder], Work]:
    def build(b: Builder) -> Work:
        get, put = getattr(b, kind)(1), b.put()
        return lambda g: put(b.lanes(g), function(np.asarray(get(b.lanes(g)))))

    return build


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}


COMBINE = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}


def isetp(b: Builder) -> Work:
    """p, q, a, b, c(, with EX: the lower halves' result): q is the opposite, combined alike."""
    name = next(m for m in b.modifiers if m in COMPARE or m in ("T", "F"))
    combine = COMBINE[next(m for m in b.modifiers if m in COMBINE)]
    unsigned, extended = b.has("U32"), b.has("EX")
    first, second = (b.u32(2), b.u32(3)) if unsigned else (b.s32(2), b.s32(3))
    other = b.predicate(4)
    lower = b.predicate(5) if extended else None
    puts = b.put_predicate(0), b.put_predicate(1)

    def work(g: Any) -> None:
        ix = b.lanes(g)
        x, y = np.asarray(first(ix)), np.asarray(second(ix))
        if lower is None:
            result = COMPARE[name](x, y)
        elif name in ("EQ", "NE"):
            low = lower(ix)
            result = (x == y) & low if name == "EQ" else (x != y) | low
        else:
            result = np.where(x == y, lower(ix), COMPARE[name[0] + "T"](x, y))
        combined = other(ix)
        puts[0](ix, combine(result, combined))
        puts[1](ix, combine(~result, combined))

    return work


INTEGERS: dict[str, Callable[[Builder], Work]] = {
    "MOV": mov, "UMOV": mov,
    "VIADD": viadd, "IADD3": iadd3, "UIADD3": iadd3,
    "IMAD": imad, "UIMAD": imad,
    "LEA": lea, "ULEA": lea,
    "IMNMX": minimum_or_maximum, "VIMNMX": minimum_or_maximum, "UIMNMX": minimum_or_maximum,
    "VIADDMNMX": vimnmx3,
    "IABS": unary("s32", np.abs),
    "ISETP": isetp, "UISETP": isetp,
}  # fmt: skip
