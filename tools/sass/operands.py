"""The texts of operands as getters of the values that lanes hold.

Registers are rows of arrays with a column per lane. Uniform registers are, too: all lanes of a warp
hold the same value. A getter takes the columns that are wanted and returns a number for each, or
one for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sass.machine import State

Array = NDArray[Any]
Getter = Callable[[Any], Any]

ZERO_REGISTER, ZERO_UNIFORM, TRUE = 255, 255, 7
_REGISTER = re.compile(r"^(U?R)(\d+|Z)((?:\.\w+)*)$")
_PREDICATE = re.compile(r"^(!?)(U?P)(\d|T)$")
_CONSTANT = re.compile(r"^c\[(0x[0-9a-f]+)\]\[(?:(U?R\d+|U?RZ)\+?)?(-?0x[0-9a-f]+)?\]((?:\.\w+)*)$")
_INTEGER = re.compile(r"^-?(?:0x[0-9a-f]+|\d+)$")


class UnknownOperand(NotImplementedError):
    pass


def register_number(text: str) -> tuple[str, int]:
    """("R", 4) for R4.64, ("UR", 255) for URZ."""
    match = _REGISTER.match(text)
    if not match:
        raise UnknownOperand(text)
    return match[1], 255 if match[2] == "Z" else int(match[2])


def predicate_number(text: str) -> tuple[str, int, bool]:
    match = _PREDICATE.match(text)
    if not match:
        raise UnknownOperand(text)
    return match[2], TRUE if match[3] == "T" else int(match[3]), match[1] == "!"


def is_predicate(text: str) -> bool:
    return _PREDICATE.match(text) is not None


def predicate(state: State, text: str) -> Getter:
    kind, number, inverted = predicate_number(text)
    row = (state.uniform_predicates if kind == "UP" else state.predicates)[number]
    if inverted:
        return lambda ix: ~row[ix]
    return lambda ix: row[ix]


def _signs(text: str) -> tuple[str, bool, bool, bool]:
    """Splits -, |...| and ~ off the text."""
    negative = text.startswith("-") and not _INTEGER.match(text)
    text = text[1:] if negative else text
    inverted = text.startswith("~")
    text = text[1:] if inverted else text
    absolute = text.startswith("|")
    return text.strip("|"), negative, absolute, inverted


def _raw(state: State, text: str, words: int) -> Getter | None:
    """The bits of a register or a constant, 32 or 64 of them; None if it is a number."""
    if match := _REGISTER.match(text):
        rows = state.registers if match[1] == "R" else state.uniforms
        number = 255 if match[2] == "Z" else int(match[2])
        low = rows[number]
        if words == 1:
            return lambda ix: low[ix]
        high = rows[number if number == 255 else number + 1]
        return lambda ix: low[ix].astype(np.uint64) | high[ix].astype(np.uint64) << np.uint64(32)
    if match := _CONSTANT.match(text):
        bank, base, offset = int(match[1], 16), match[2], int(match[3] or "0", 16)
        dtype: Any = np.uint32 if words == 1 else np.uint64
        if base is None:
            value = state.constant(bank, offset, dtype)
            return lambda ix: value
        register = _raw(state, base, 1)
        assert register is not None
        return lambda ix: state.constants(bank, register(ix).astype(np.int64) + offset, dtype)
    return None


def u32(state: State, text: str) -> Getter:
    text, negative, absolute, inverted = _signs(text)
    if _INTEGER.match(text):
        value = np.uint32(int(text, 0) & 0xFFFFFFFF)
        if inverted:
            value = ~value
        return lambda ix: value
    raw = _raw(state, text, 1)
    if raw is None:
        # A constant in float notation, where the instruction takes bits.
        number = np.float32(text).view(np.uint32)
        return lambda ix: number
    if absolute:
        return lambda ix: np.abs(np.asarray(raw(ix)).view(np.int32)).view(np.uint32)
    if inverted:
        return lambda ix: ~np.asarray(raw(ix))
    if negative:
        return lambda ix: np.uint32(0) - np.asarray(raw(ix))
    return raw


def s32(state: State, text: str) -> Getter:
    get = u32(state, text)
    return lambda ix: np.asarray(get(ix)).view(np.int32)


def u64(state: State, text: str) -> Getter:
    text, negative, _, inverted = _signs(text)
    if _INTEGER.match(text):
        value = np.uint64(int(text, 0) & 0xFFFFFFFFFFFFFFFF)
        return lambda ix: value
    raw = _raw(state, text, 2)
    if raw is None:
        raise UnknownOperand(text)
    if negative:
        return lambda ix: np.uint64(0) - np.asarray(raw(ix))
    if inverted:
        return lambda ix: ~np.asarray(raw(ix))
    return raw


def _floating(state: State, text: str, words: int) -> Getter:
    dtype: Any = np.float32 if words == 1 else np.float64
    if _INTEGER.match(text) or re.match(r"^[+-]?(\d|INF|\.)", text):
        # Hexadecimal numbers are bits; for a double, the upper ones.
        if "0x" in text:
            bits = int(text, 16)
            value = np.uint32(bits).view(np.float32)
            if words == 2:
                value = np.uint64(bits << 32).view(np.float64)
        else:
            value = dtype(float(text))  # INF among them
        return lambda ix: value
    text, negative, absolute, _ = _signs(text)
    raw = _raw(state, text, words)
    if raw is None:
        raise UnknownOperand(text)
    sources = {(False, False): lambda v: v, (True, False): np.negative, (False, True): np.abs}
    change = sources.get((negative, absolute), lambda v: -np.abs(v))
    return lambda ix: change(np.asarray(raw(ix)).view(dtype))


def f32(state: State, text: str) -> Getter:
    return _floating(state, text, 1)


def f64(state: State, text: str) -> Getter:
    return _floating(state, text, 2)


def half_selection(text: str) -> tuple[str, str]:
    """A register and which half of it is meant: H0_H0, H1_H1 or both."""
    register, _, half = text.partition(".")
    return register, half


class Place:
    """``[R2.64+UR4+0x10]``, with or without a descriptor: an address for each lane."""

    def __init__(self, state: State, text: str) -> None:
        # desc[UR4][R2.64+0x10]: the descriptor says how the access is cached.
        inside = text[text.rindex("[") + 1 : text.rindex("]")]
        self.parts: list[Getter] = []
        self.offset = 0
        for part in re.findall(r"[+-]?[^+-]+", inside):
            part = part.lstrip("+")
            if _INTEGER.match(part):
                self.offset += int(part, 0)
            else:
                self.parts.append(self._part(state, part, "desc" in text or ".64" in inside))

    @staticmethod
    def _part(state: State, part: str, beside_wide: bool) -> Getter:
        bare, _, suffix = part.partition(".")
        kind, _ = register_number(bare)
        if suffix == "64" or (kind == "UR" and beside_wide):
            wide = u64(state, bare)
            return lambda ix: np.asarray(wide(ix)).view(np.int64)
        if suffix == "":
            narrow = s32(state, bare)
            return lambda ix: np.asarray(narrow(ix)).astype(np.int64)
        unsigned = u32(state, bare)
        scale = 1 if suffix == "U32" else int(suffix[1:])  # X4, X8, X16
        return lambda ix: np.asarray(unsigned(ix)).astype(np.int64) * scale

    def __call__(self, ix: Any, count: int) -> Array:
        total = np.full(count, self.offset, np.int64)
        for part in self.parts:
            total = total + part(ix)
        return total
