"""Tables as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells below a header: columns of numbers are aligned to the right, others to the
    left."""
    columns = [list(column) for column in zip(header, *rows, strict=True)]
    widths = [max(map(_width, column)) for column in columns]
    right = [any(map(_is_number, column[1:])) for column in columns]
    lines = []
    for cells in (header, *rows):
        parts = []
        for cell, width, to_right in zip(cells, widths, right, strict=True):
            space = " " * (width - _width(cell))
            parts.append(space + cell if to_right else cell + space)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Columns of a terminal: two for Chinese and its like, none for an accent of its own."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").lstrip("-+").isdigit()
