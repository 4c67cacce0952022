"""Amounts of memory as text."""

from __future__ import annotations

import re

UNITS = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power
    for power, letter in enumerate("KMGT", 1)
    for end, base in (("B", 1000), ("iB", 1024))
}

MOST = 2**46  # half of what a 64-bit process can address


def parse_size(text: str) -> int:
    """The bytes of ``2GiB``, ``500 MB`` or ``1.5tib``; ``iB`` counts in powers of 1024.

    Raises:
        ValueError: the text has another form, or is more than a process can address.

    Example:
        >>> parse_size("1.5KiB"), parse_size("2 MB")
        (1536, 2000000)
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    units = {name.lower(): factor for name, factor in UNITS.items()}
    if match is None or match[2].lower() not in units:
        raise ValueError(f"must be an amount of memory such as 2GiB or 500MB, got {text!r}")
    size = int(float(match[1]) * units[match[2].lower()])
    if size > MOST:
        raise ValueError(f"must be at most {MOST // 2**40} TiB, got {text!r}")
    return size


def size_text(size: int) -> str:
    """An amount of memory in the largest unit that shows two of its digits.

    >>> size_text(3 * 2**30), size_text(500_000), size_text(7)
    ('3.00 GiB', '0.48 MiB', '0.01 KiB')
    """
    powers = {"GiB": 3, "MiB": 2, "KiB": 1}
    unit = next((unit for unit, power in powers.items() if size >= 1024**power / 100), "KiB")
    return f"{size / 1024 ** powers[unit]:.2f} {unit}"
