"""Marks code that ``torch.compile`` must not compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["STRATEGIES", "never_compiled", "uncompiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Not public in torch; the public way takes a second to import and a microsecond per call. Without
# it such calls are slower, and those with numbers may fail.
try:
    _dynamo = torch._C._dynamo.eval_frame
    _LEFT_ALONE = _dynamo._FrameExecStrategy(_dynamo._FrameAction.SKIP, _dynamo._FrameAction.SKIP)
    _set_strategy = _dynamo.set_code_exec_strategy
    STRATEGIES = True
    """Whether torch can be told not to compile code."""
except AttributeError:
    STRATEGIES = False


def uncompiled(function: _Function) -> _Function:
    """``function``, which compiled code calls with all that it calls at a break of its graph.

    Otherwise torch would compile each of these on its own, with numbers among the arguments as
    symbols, which some of its formulas do not support. Calls that torch inlines are compiled all
    the same.
    """
    if STRATEGIES:
        _set_strategy(function.__code__, _LEFT_ALONE)
    return function


def never_compiled(function: _Function) -> _Function:
    """:func:`uncompiled`, and torch does not inline it either: what ``torch.compiler.disable``
    marks, without what that imports and costs per call. For what is partly computed with NumPy,
    which torch would replace by its own."""
    marked: Any = uncompiled(function)
    marked._torchdynamo_disable = True
    marked._torchdynamo_disable_msg = "part of it is computed with NumPy"
    return function
