"""What the C++ sources must not say: index arithmetic outside of its one text, and who uses an
engine inside of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="no C++ sources beside these tests")


def found(pattern: str, folder: Path, but: tuple[str, ...] = ()) -> list[str]:
    """Lines of code below a folder that match, comments left out, but those of some files."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(CSRC).as_posix()
        if path.suffix not in SUFFIXES or name in but:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line.split("//")[0]):
                lines.append(f"{name}:{number}: {line.strip()}")
    return lines


def test_index_arithmetic_has_one_text() -> None:
    """A position is (step * output + start) / denominator in common/geometry.h alone."""
    geometry = ("common/geometry.h",)
    assert found(r"\bdenominator\b", CSRC / "common"), "the pattern must find the text itself"
    axis = r"\b(axis|axes\.[xy]|[xy]_axis|shape\.[xy]|x|y)\.(step|start|denominator)\b"
    assert found(axis, CSRC, geometry) == []
    assert found(r"\bdenominator\b|\bfloor_divide\(", CSRC, geometry) == []


@pytest.mark.parametrize(
    ("engine", "user"),
    [
        ("softmax", r"[Cc]ross_?[Ee]ntropy|LabelMap|ignore_index|smoothing|argmax"),
        ("cells", r"[Cc]ross_?[Ee]ntropy|[Aa]rgmax|softmax|LabelMap"),
        ("common", r'#include "(softmax|cells|bilinear|cross_entropy|argmax|confusion_matrix)/'),
    ],
)
def test_an_engine_does_not_know_its_users(engine: str, user: str) -> None:
    assert (CSRC / engine).is_dir()
    assert found(user, CSRC / engine) == []


def test_constants_are_written_once() -> None:
    for number in (r"0\.69314718\d*", r"1\.4426950\d*"):
        lines = found(r"constexpr.*" + number, CSRC)
        assert len(lines) == 1, lines


def test_kernels_include_nothing_with_code_of_its_own() -> None:
    """Compiled once for each instruction set, they must not share an inline function's symbol: no
    torch and no standard header but those of types."""
    seen: set[str] = set()
    waiting = [path.relative_to(CSRC).as_posix() for path in CSRC.rglob("cpu/*kernels.cpp")]
    assert len(waiting) >= 5
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for include in re.findall(r"#include [<\"](.+?)[>\"]", (CSRC / name).read_text()):
            if (CSRC / include).is_file():
                waiting.append(include)
            else:
                plain = {"cstdint", "cstddef", "immintrin.h", "type_traits"}
                assert include in plain, f"{name}: {include}"
