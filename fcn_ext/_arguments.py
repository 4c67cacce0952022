"""Arguments as the numbers they stand for, or an exception that names them."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

__all__ = ["integer", "number", "pair"]

_LARGEST = 2**63 - 1


def integer(value: Any, name: str) -> int:
    """``value`` as an int of 64 bits (or a traced one), or an exception that names the argument.

    Whatever has ``__index__`` will do, such as NumPy's integers, except bool: that one is a flag
    in the wrong place.

    Raises:
        TypeError: ``value`` is not an integer.
        ValueError: it does not fit in 64 bits.
    """
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not -_LARGEST - 1 <= value <= _LARGEST:
        raise ValueError(f"{name} must fit in 64 bits, got {value}")
    return value  # type: ignore[no-any-return]


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as (y, x): one integer stands for both."""
    # The two usual types first: the test for any sequence costs more than all else here.
    if isinstance(value, (tuple, list)) or (
        not isinstance(value, (int, str)) and isinstance(value, Sequence)
    ):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (y, x), got {value!r}")
        y, x = value
    else:
        y = x = value
    # Traced numbers are not compared, which would bind a graph to them.
    if (
        type(y) is int
        and type(x) is int
        and (is_dynamo_compiling() or (0 <= y <= _LARGEST and 0 <= x <= _LARGEST))
    ):
        return y, x
    return integer(y, name), integer(x, name)


def number(value: Any, name: str) -> float:
    """``value`` as a float (or a traced one), or TypeError naming the argument."""
    if isinstance(value, torch.SymFloat):
        return value  # type: ignore[return-value]
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{name} must be a number, got {value!r}")
