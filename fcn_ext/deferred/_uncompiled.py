"""Code that ``torch.compile`` runs as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["STRATEGIES", "uncompiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Not public in torch, whose public way takes a second to import and a microsecond of every call.
# Without it such calls are slower, and those with numbers may fail.
try:
    _dynamo = torch._C._dynamo.eval_frame
    _LEFT_ALONE = _dynamo._FrameExecStrategy(_dynamo._FrameAction.SKIP, _dynamo._FrameAction.SKIP)
    _set_strategy = _dynamo.set_code_exec_strategy
    STRATEGIES = True
    """Whether torch can be told what not to compile."""
except AttributeError:
    STRATEGIES = False


def uncompiled(function: _Function) -> _Function:
    """``function``, which compiled code calls, with all that it calls, where its graph breaks.

    Else torch would compile each of these by itself, with numbers among the arguments as symbols,
    which some of its own formulas do not know. Where it looks into a call it still does.
    """
    if STRATEGIES:
        _set_strategy(function.__code__, _LEFT_ALONE)
    return function
