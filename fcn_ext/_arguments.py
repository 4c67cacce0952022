"""Converts arguments to numbers, words or devices, or raises an exception that names them."""

from __future__ import annotations

import math
import numbers
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch.compiler import is_dynamo_compiling

__all__ = [
    "class_names",
    "device",
    "finite",
    "flag",
    "integer",
    "invalid_labels",
    "is_list",
    "is_one_of",
    "not_negative",
    "number",
    "number_text",
    "one_of",
    "one_of_literal",
    "pair",
    "positive",
    "shown",
    "with_values",
    "wrong_pixels",
]

_LARGEST = 2**63 - 1


_MOST_NUMBERS, _MOST_CHARACTERS = 8, 200


def shown(value: Any) -> str:
    """``value`` as error messages show it: on one short line; of large arrays, the shape alone."""
    if isinstance(value, torch.Tensor) and not value.is_nested and value.numel() > _MOST_NUMBERS:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray) and value.size > _MOST_NUMBERS:
        return f"an array of shape {value.shape}"
    return _line(repr(value))


def _line(text: str) -> str:
    text = re.sub(r"\s*\n\s*", " ", text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}\u2026"


def integer(value: Any, name: str) -> int:
    """``value`` as an int of 64 bits (or a traced one), or an exception that names the argument.

    Anything with ``__index__`` is accepted, such as NumPy's integers, except bools, Python's,
    NumPy's or a tensor's: these are flags in the wrong place.

    Raises:
        TypeError: ``value`` is not an integer.
        ValueError: it does not fit in 64 bits, or is a tensor on the meta device.
    """
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if isinstance(value, (bool, np.bool_)):  # the latter has an __index__ before NumPy 2
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool:
            raise TypeError(f"{name} must be an integer, got {shown(value)}")
        with_values(value, name)
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {shown(value)}") from None
    if not -_LARGEST - 1 <= value <= _LARGEST:
        raise ValueError(f"{name} must fit in 64 bits, got {value}")
    return value  # type: ignore[no-any-return]


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as (y, x); one integer stands for both."""
    # The two usual types first: the test for any sequence costs more than all else here.
    if isinstance(value, (tuple, list)) or (
        not isinstance(value, (int, str, bytes, bytearray)) and isinstance(value, Sequence)
    ):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (y, x), got {shown(value)}")
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
    # Arrays, sets and the like are no sequences; the message says that a pair would do.
    is_several = hasattr(value, "__len__") and getattr(value, "ndim", 1) != 0
    if y is value and is_several and not isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be an integer or a pair (y, x), got {shown(value)}")
    return integer(y, name), integer(x, name)


def number(value: Any, name: str) -> float:
    """``value`` as a float (or a traced one), or an exception that names the argument.

    Any real number of Python or NumPy is accepted, except bools. Tensors are not: reading one would
    wait for its device and lose its gradient.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: it does not fit in a float.
    """
    if isinstance(value, torch.SymFloat):
        return value  # type: ignore[return-value]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit in a float, got a number beyond 1.8e+308") from None


def number_text(value: float) -> str:
    """``value`` in as few digits as identify it, but at least six, as csrc/common/check.h prints
    it, so that a number just above 1 is not shown as "1"."""
    texts = (f"{value:.{digits}g}" for digits in range(6, 18))
    return next((text for text in texts if float(text) == value), f"{value:g}")


def finite(value: Any, name: str) -> float:
    """:func:`number` of a ``value`` that is neither infinite nor NaN, or ValueError."""
    found = number(value, name)
    if not -math.inf < found < math.inf:
        raise ValueError(f"{name} must be finite, got {found:g}")
    return found


def not_negative(value: Any, name: str) -> float:
    """:func:`finite` of a ``value`` >= 0, or ValueError."""
    value = number(value, name)
    if not value >= 0:
        raise ValueError(f"{name} must be >= 0, got {value:g}")
    return finite(value, name)


def positive(value: Any, name: str) -> float:
    """:func:`finite` of a ``value`` > 0, or ValueError."""
    value = number(value, name)
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value:g}")
    return finite(value, name)


def flag(value: Any, name: str) -> bool:
    """``value`` if it is True or False, or TypeError naming the argument. Other values are refused,
    since "no", for instance, would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")
    return value


def is_list(value: Any, *, or_text: bool = False) -> bool:
    """Whether ``value`` can be iterated over in a fixed order. A set cannot: its order may differ
    from process to process. An array of one number does not count, nor text unless ``or_text``."""
    if isinstance(value, (str, bytes, bytearray)):
        return or_text
    is_several = isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0
    return is_several and not isinstance(value, (set, frozenset))


def class_names(value: Any, num_classes: int) -> tuple[Any, ...] | None:
    """The argument ``class_names`` as a tuple with one name per class; None if it is None.

    Raises:
        TypeError: it is not a list.
        ValueError: it is longer or shorter.
    """
    if value is None:
        return None
    if not is_list(value):
        raise TypeError(f"class_names must be a list of names, got {shown(value)}")
    names = tuple(value)
    if len(names) != num_classes:
        raise ValueError(
            f"class_names must have num_classes = {num_classes} names, got {len(names)}"
        )
    return names


def wrong_pixels(count: int) -> str:
    """How error messages count pixels with wrong labels."""
    return "1 pixel that is not" if count == 1 else f"{count} pixels that are not"


def invalid_labels(count: int, num_classes: int, ignore_index: int, more: str = "") -> ValueError:
    """The error of a metric that has counted pixels with wrong labels; ``more`` rules follow."""
    return ValueError(
        f"labels must be in [0, {num_classes}) or, in the target, ignore_index = "
        f"{ignore_index}{more}, got {wrong_pixels(count)}"
    )


def device(value: Any, name: str) -> torch.device:
    """``value``, a device, its name or its number, as a device.

    Raises:
        TypeError: it is none of these.
        ValueError: torch knows no such device; the message has torch's reason.
    """
    if isinstance(value, torch.device):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"{name} must be a torch.device or its name, got {shown(value)}")
    try:
        return torch.device(value)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} must be one that torch has, got {shown(value)}: {_line(str(error))}"
        ) from None


def with_values(value: torch.Tensor, name: str) -> torch.Tensor:
    """``value`` if it holds values, or ValueError naming the argument."""
    if value.is_meta:
        raise ValueError(f"{name} must have values, got a tensor on the meta device")
    return value


def is_one_of(value: Any, choices: Sequence[str]) -> bool:
    """Whether ``value`` is a string among ``choices``; comparing an array would give an array."""
    return isinstance(value, str) and value in choices


def one_of(value: Any, choices: Sequence[str], name: str) -> str:
    """``value`` if it is one of ``choices``, or ValueError naming the argument."""
    if is_one_of(value, choices):
        return value  # type: ignore[no-any-return]
    *others, last = map(repr, choices)
    raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {shown(value)}")


def one_of_literal(value: Any, kind: Any, name: str) -> Any:
    """``value`` if it is one of the words of ``kind``, a Literal, or ValueError naming the
    argument."""
    if is_one_of(value, get_args(kind)):
        return value
    raise ValueError(f"{name} must be one of {get_args(kind)}, got {shown(value)}")
