"""Instructions that compute, against Python's integers and NumPy's floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .programs import Array, of_words

generator = np.random.default_rng(1)
EDGES = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000], np.uint32)


def words() -> Array:
    drawn = generator.integers(0, 1 << 32, 32, np.uint64).astype(np.uint32)
    drawn[:8] = generator.permutation(EDGES)
    return drawn


def floats() -> Array:
    drawn = generator.standard_normal(32).astype(np.float32)
    drawn[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]
    return generator.permutation(drawn)


def integers(body: str, wanted: Callable[..., int], count: int = 3) -> None:
    given = [words() for _ in range(count)]
    found = of_words(body, *given)
    for lane in range(32):
        expected = wanted(*(int(each[lane]) for each in given)) & 0xFFFFFFFF
        assert int(found[lane]) == expected, (body, [hex(int(each[lane])) for each in given])


def signed(value: int) -> int:
    return value - (1 << 32) if value & 0x80000000 else value


def test_sums_carry() -> None:
    integers("IADD3 R20, R10, -R11, R12", lambda a, b, c: a - b + c)
    high = "IADD3 R20, P0, R10, R11, RZ\nIADD3.X R20, R12, ~R11, RZ, P0, !PT"
    integers(high, lambda a, b, c: c + (b ^ 0xFFFFFFFF) + (a + b >> 32))
    borrow = "IADD3 R20, P0, R10, -R11, RZ\nIADD3.X R20, RZ, RZ, RZ, P0, !PT"
    integers(borrow, lambda a, b: int(a >= b), 2)
    scaled = "LEA R20, P1, R10, -R11, 0x4\nIMAD.X R20, RZ, RZ, ~RZ, P1"
    integers(scaled, lambda a, b: int((a << 4 & 0xFFFFFFFF) >= b) - 1, 2)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("IMAD R20, R10, R11, R12", lambda a, b, c: a * b + c),
        ("IMAD.MOV.U32 R20, RZ, RZ, R11", lambda a, b, c: b),
        ("IMAD.WIDE.U32 R20, R10, R11, RZ\nMOV R20, R21", lambda a, b, c: a * b >> 32),
        ("IMAD.WIDE R20, R10, R11, RZ\nMOV R20, R21", lambda a, b, c: signed(a) * signed(b) >> 32),
        ("MOV R14, R12\nMOV R15, R11\nIMAD.HI.U32 R20, R10, R11, R14",
         lambda a, b, c: a * b + (b << 32 | c) >> 32),
        ("IMAD.X R20, R10, 0x1, ~R11, PT", lambda a, b, c: a + (b ^ 0xFFFFFFFF) + 1),
        ("LEA R20, R10, R11, 0x3", lambda a, b, c: (a << 3) + b),
        ("LEA.HI R20, R10, R11, R12, 0x5", lambda a, b, c: b + ((c << 32 | a) << 5 >> 32)),
        ("LEA.HI.X.SX32 R20, R10, R11, 0x2, PT", lambda a, b, c: b + (signed(a) << 2 >> 32) + 1),
        ("SHF.R.U32.HI R20, RZ, 0x7, R10", lambda a, b, c: a >> 7),
        ("SHF.R.S32.HI R20, RZ, 0x1f, R10", lambda a, b, c: signed(a) >> 31),
        ("SHF.R.U64 R20, R10, 0x9, R11", lambda a, b, c: (b << 32 | a) >> 9),
        ("SHF.L.U64.HI R20, R10, 0x9, R11", lambda a, b, c: (b << 32 | a) << 9 >> 32),
        ("LOP3.LUT R13, R12, 0x1f, RZ, 0xc0, !PT\nSHF.L.U32 R20, R10, R13, RZ",
         lambda a, b, c: a << (c & 31)),
        ("SHF.L.U32 R20, R10, 0x20, RZ", lambda a, b, c: 0),
        ("LOP3.LUT R20, R10, R11, R12, 0x96, !PT", lambda a, b, c: a ^ b ^ c),
        ("LOP3.LUT R20, R10, R11, R12, 0xca, !PT", lambda a, b, c: a & b | ~a & c),
        ("LOP3.LUT P0, RZ, R10, 0x1, RZ, 0xc0, !PT\nSEL R20, R11, R12, P0",
         lambda a, b, c: b if a & 1 else c),
        ("PRMT R20, R10, 0x7732, RZ", lambda a, b, c: a >> 16),
        ("PRMT R20, R10, 0x5410, R11", lambda a, b, c: a & 0xFFFF | (b & 0xFFFF) << 16),
        ("PRMT R20, R10, 0x9910, RZ", lambda a, b, c: a & 0xFFFF | 0xFFFF0000 * (a >> 15 & 1)),
        ("VIMNMX R20, R10, R11, PT", lambda a, b, c: min(signed(a), signed(b))),
        ("VIMNMX.U32 R20, R10, R11, !PT", lambda a, b, c: max(a, b)),
        ("IABS R20, R10", lambda a, b, c: abs(signed(a))),
        ("POPC R20, R10", lambda a, b, c: bin(a).count("1")),
        ("BREV R20, R10", lambda a, b, c: int(f"{a:032b}"[::-1], 2)),
        ("FLO.U32 R20, R10", lambda a, b, c: a.bit_length() - 1),
        ("FLO.U32.SH R20, R10", lambda a, b, c: 32 - a.bit_length() if a else -1),
        ("ISETP.LT.AND P0, PT, R10, R11, PT\nSEL R20, R12, 0x5, P0",
         lambda a, b, c: c if signed(a) < signed(b) else 5),
        ("ISETP.GE.U32.AND P0, P1, R10, R11, PT\nSEL R20, R12, 0x5, P1",
         lambda a, b, c: c if a < b else 5),
        ("HFMA2.MMA R20, -RZ, RZ, 0, 5.9604644775390625e-08", lambda a, b, c: 1),
    ],
)  # fmt: skip
def test_integer(body: str, wanted: Callable[..., int]) -> None:
    integers(body, wanted)


@pytest.mark.parametrize("name", ["LT", "LE", "GT", "GE", "EQ", "NE"])
def test_comparisons_of_64_bits(name: str) -> None:
    """The lower halves first, then the upper ones, with what those gave."""
    compare = {"LT": int.__lt__, "LE": int.__le__, "GT": int.__gt__, "GE": int.__ge__,
               "EQ": int.__eq__, "NE": int.__ne__}[name]  # fmt: skip
    body = (
        f"ISETP.{name}.U32.AND P0, PT, R10, R11, PT\n"
        f"ISETP.{name}.AND.EX P0, PT, R12, R13, PT, P0\nSEL R20, 0x1, RZ, P0"
    )
    for upper in (words(), EDGES.repeat(4)):  # the second time, alike
        low, other = words(), words()
        second = words() if upper is not EDGES else upper
        found = of_words(body, low, other, upper, second)
        for lane in range(32):
            a = signed(int(upper[lane])) << 32 | int(low[lane])
            b = signed(int(second[lane])) << 32 | int(other[lane])
            assert found[lane] == compare(a, b)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("FADD R20, R10, -|R11|", lambda a, b, c: a - abs(b)),
        ("FMUL R20, R10, R11", lambda a, b, c: a * b),
        ("FFMA R20, R10, R11, R12", lambda a, b, c: (a.astype(np.float64) * b + c).astype("f4")),
        ("FMNMX R20, R10, R11, PT", lambda a, b, c: np.fmin(a, b)),
        ("FMNMX R20, R10, R11, !PT", lambda a, b, c: np.fmax(a, b)),
        ("FSETP.NEU.AND P0, PT, R10, R11, PT\nFSEL R20, R12, 1, P0",
         lambda a, b, c: np.where((a != b), c, np.float32(1))),
        ("FSETP.GEU.AND P0, PT, R10, R11, PT\nFSEL R20, R12, 1, P0",
         lambda a, b, c: np.where(~(a < b), c, np.float32(1))),
        ("FSETP.NAN.AND P0, PT, R10, R11, PT\nFSEL R20, R12, -1, P0",
         lambda a, b, c: np.where(np.isnan(a) | np.isnan(b), c, np.float32(-1))),
        ("MUFU.EX2 R20, R10", lambda a, b, c: np.exp2(a)),
        ("MUFU.RCP R20, R10", lambda a, b, c: 1 / a),
        ("FADD.FTZ R20, R10, -RZ", lambda a, b, c: np.where(np.abs(a) < 2.0**-126, a * 0, a)),
        ("F2F.F64.F32 R14, R10\nDADD R14, R14, R14\nF2F.F32.F64 R20, R14", lambda a, b, c: a + a),
        ("F2FP.BF16.F32.PACK_AB R20, RZ, R10\nIMAD.U32 R20, R20, 0x10000, RZ",
         lambda a, b, c: bfloat16(a)),
    ],
)  # fmt: skip
def test_float(body: str, wanted: Callable[..., Array]) -> None:
    given = [floats() for _ in range(3)]
    with np.errstate(all="ignore"):
        expected = wanted(*given).astype(np.float32)
    found = of_words(body, *given).view(np.float32)
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=0)


def bfloat16(values: Array) -> Array:
    import torch

    return torch.from_numpy(values).bfloat16().float().numpy()


@pytest.mark.parametrize(
    ("name", "dtype"), [("S32", np.int32), ("U32", np.uint32)], ids=["signed", "unsigned"]
)
def test_conversions(name: str, dtype: type) -> None:
    given = words()
    suffix = "" if name == "S32" else ".U32"
    found = of_words(f"I2F{suffix} R20, R10", given).view(np.float32)
    np.testing.assert_array_equal(found, given.view(dtype).astype(np.float32))
    some = (floats() * 100).clip(-2e9, 2e9)
    back = of_words("F2I.TRUNC.NTZ R20, R10", some).view(np.int32)
    np.testing.assert_array_equal(back, np.nan_to_num(some, nan=0.0).astype(np.int32))


def test_rounding_up_of_an_integer() -> None:
    """The reciprocal of an integer division begins with it."""
    given = np.full(32, (1 << 24) + 1, np.uint32)
    found = of_words("I2F.U32.RP R20, R10", given).view(np.float32)
    assert (found == 2.0**24 + 2).all()
