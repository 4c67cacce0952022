"""Options with several named values, such as ``color=runs/color,hha=runs/hha``."""

from __future__ import annotations


def by_name(text: str) -> dict[str, str] | None:
    """The values of ``text`` by name; None unless every item has a value and a unique name.

    >>> by_name("semantic=1, geometric=0.5")
    {'semantic': '1', 'geometric': '0.5'}
    """
    values: dict[str, str] = {}
    for item in text.split(","):
        name, _, value = (part.strip() for part in item.partition("="))
        if not name or not value or name in values:
            return None
        values[name] = value
    return values
