"""Names that may hold anything, as they can be shown."""

from __future__ import annotations

import pytest

from fcn_train.shown import shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat & dog", "cat & dog"),
        ("caf\u00e9 \u9ed2", "caf\u00e9 \u9ed2"),
        ("caf\udce9", "caf\\udce9"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x00\x1b[31m", "\\x00\\x1b[31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_an_escape(name: str, expected: str) -> None:
    assert shown(name) == expected
    shown(name).encode("utf-8")


def test_long_names_are_cut() -> None:
    assert shown("x" * 9, 5) == "xxxx\u2026"
    assert shown("x" * 5, 5) == "xxxxx"
