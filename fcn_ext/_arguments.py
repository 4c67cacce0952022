"""Arguments as the numbers they stand for, or an exception that names them."""

from __future__ import annotations

import numbers
import operator
from typing import Any

import torch

__all__ = ["integer", "number"]


def integer(value: Any, name: str) -> int:
    """``value`` as an int (or a traced one), or TypeError naming the argument.

    Whatever has ``__index__`` will do, NumPy's integers among it, but for bool: that one is a
    flag in the wrong place.
    """
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} must be an integer, got {value!r}")


def number(value: Any, name: str) -> float:
    """``value`` as a float (or a traced one), or TypeError naming the argument."""
    if isinstance(value, torch.SymFloat):
        return value  # type: ignore[return-value]
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{name} must be a number, got {value!r}")
