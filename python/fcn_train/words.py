"""Counts in sentences, such as "1 step" and "2 steps"."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: float, noun: str, digits: str = "") -> str:
    """``number`` and ``noun``, which becomes a plural unless there is one: "1 class", "3 classes".

    Args:
        number: how many things.
        noun: the thing.
        digits: how the number is written, as ``format`` takes it: "," for "10,000 pixels".
    """
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:{digits}} {noun}{plural}"


def counted_each(numbers: Iterable[int], noun: str) -> str:
    """The same for several numbers: "1 class", "21 and 3 classes"."""
    *others, last = numbers
    return " and ".join([*map(str, others), counted(last, noun)])
