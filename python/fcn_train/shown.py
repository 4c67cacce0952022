"""Makes names of files and classes, which may have any characters, safe to show."""

from __future__ import annotations

from typing import IO


def shown(name: str, most: int | None = None) -> str:
    """``name`` with escapes for what cannot be printed, cut to ``most`` characters.

    Bytes of a file name that are not UTF-8 (Python's lone surrogates), control characters and line
    breaks become ``\\udcff``, ``\\x07`` and ``\\n``.
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return text if most is None or len(text) <= most else text[: most - 1] + "\u2026"


def encodable(text: str, stream: IO[str]) -> str:
    """``text`` with escapes for what ``stream`` cannot take, such as names that are not UTF-8."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
