"""Every check of arguments in C++ is broken by some call: its message is seen.

``test_rules.py`` compares the messages of C++ with those of ``fcn_ext/_*rules.py``; a check that no
call breaks would be in neither comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fcn_ext import ops

from .test_rules import CASES, refusal

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cpp"))
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Checks that only tensors of two devices break: ops/_common.py looks at them before, and
# tests/cuda at both.
_OF_DEVICES = re.compile("on the (same )?device")


def arguments_of(source: str) -> Iterator[list[str]]:
    """The arguments of each FCN_EXT_CHECK in a source, as they are written."""
    for match in re.finditer(r"\bFCN_EXT_CHECK\(", source):
        depth, start, place, found = 1, match.end(), match.end(), []
        while depth:
            if literal := _LITERAL.match(source, place):
                place = literal.end()
                continue
            character = source[place]
            depth += (character in "([{") - (character in ")]}")
            if depth == 0 or (depth == 1 and character == ","):
                found.append(source[start:place])
                start = place + 1
            place += 1
        yield found


def texts() -> list[tuple[str, list[str]]]:
    """Of each check, where it is, and the constant parts of its message in their order."""
    found = []
    for path in SOURCES:
        source = path.read_text()
        source = re.sub(r"//.*", "", source.replace("#define FCN_EXT_CHECK(", "#define "))
        for _, *message in arguments_of(source):
            # What is one text or another is neither here.
            parts = ["".join(_LITERAL.findall(piece)) for piece in message if "?" not in piece]
            found.append((f"{path.relative_to(CSRC)}", [part for part in parts if part]))
    return found


def messages() -> list[str]:
    said = [refusal(call) for call in CASES]
    scores = torch.zeros(1, 3, 4, 4)
    for target in (torch.full((1, 8, 8), 3), torch.full((1, 3, 8, 8), 2)):
        call = ops.cross_entropy if target.dim() == 3 else ops.sigmoid_sums
        with pytest.raises(ValueError, match="target must be") as caught:
            call(scores, target)
        said.append(str(caught.value))
    # A result whose strides no tensor has.
    empty = torch.zeros(1).expand(0, 2**31, 1, 1)
    with pytest.raises(ValueError, match="must") as caught:
        ops.interpolate(empty, (2**30, 2**30))
    said.append(str(caught.value))
    return said


def test_every_check_of_csrc_is_broken_somewhere() -> None:
    checks, said = texts(), messages()
    assert len(checks) > 40
    unseen = []
    for place, parts in checks:
        if any(map(_OF_DEVICES.search, parts)):
            continue
        pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        if not any(pattern.search(message) for message in said):
            unseen.append(f"{place}: {' ... '.join(parts)}")
    assert not unseen, "\n".join(unseen)


def test_arguments_are_told_apart() -> None:
    source = 'FCN_EXT_CHECK(a(1, 2) && b == ",", name, " must be (", f(3, ")"), "x" "y");'
    (found,) = arguments_of(source)
    assert [text.strip() for text in found] == [
        'a(1, 2) && b == ","',
        "name",
        '" must be ("',
        'f(3, ")")',
        '"x" "y"',
    ]


@pytest.mark.parametrize(
    "dtype",
    [torch.uint16, torch.uint64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn],
    ids=str,
)
def test_dtypes_have_the_names_of_torch(dtype: torch.dtype) -> None:
    odd = torch.zeros((1, 3, 4, 4)).to(dtype)
    name = str(dtype).removeprefix("torch.")
    for call in (lambda: ops.upsample(odd, 2), lambda: ops.argmax(odd, (8, 8))):
        with pytest.raises(ValueError, match=f"^input must be float32.*, got {name}$"):
            call()
    with pytest.raises(ValueError, match=f"^target labels must be uint8.*, got {name}$"):
        ops.confusion_matrix(torch.zeros((1, 4, 4), dtype=torch.int64), odd[:, 0], 3)
