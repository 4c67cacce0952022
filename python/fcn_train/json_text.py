"""JSON that others may have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Pairs = list[tuple[str, Any]]


def parse_json(text: str, *, of_object: Callable[[Pairs], Any] | None = None) -> Any:
    """The values in ``text``.

    Args:
        of_object: makes an object of its keys and values, in place of ``dict``.

    Raises:
        ValueError: it is no JSON, or is nested deeper than Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=of_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
