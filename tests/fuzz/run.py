"""One case: a call drawn by its seed, and what became of it."""

from __future__ import annotations

import warnings
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from fcn_ext import reference

from .draw import Draw
from .judge import Call, Fault, examine
from .plain import full_size
from .registry import FUNCTIONS
from .wrong import examine_refusal

# The share of calls that break a rule.
_WRONG = 0.25


def draw_call(name: str, seed: int, number: int) -> tuple[Call, Draw]:
    draw = Draw(f"{seed}/{name}/{number}")
    call = FUNCTIONS[name](draw)
    call.name = name
    return call, draw


def run_case(name: str, seed: int, number: int) -> None:
    """Case ``number`` of the function ``name``.

    Raises:
        Fault: it is not as promised; the message has the arguments.
    """
    call, draw = draw_call(name, seed, number)

    def cotangents(result: Tensor) -> Tensor:
        seeds = draw.normal(result.shape)
        return draw.laid_out(seeds.to(result.dtype)) if result.dim() else seeds.to(result.dtype)

    threads = draw.one_of([(1, 1), (1, 1), (1, 2), (1, 3)])
    try:
        with mock.patch.object(reference, "at_full_size", full_size), warnings.catch_warnings():
            warnings.simplefilter("error")
            if draw.chance(_WRONG):
                examine_refusal(call, draw)
            else:
                examine(call, cotangents, threads)
    except Fault as fault:
        raise Fault(f"{fault}\n  of {described(call)}") from None
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {error}\n  of {described(call)}") from error


def described(call: Call) -> str:
    texts = [f"{name}={_text(value)}" for name, value in call.arguments.items()]
    return f"{call.name}({', '.join(texts)})"


def _text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    kind = str(value.dtype).removeprefix("torch.")
    return f"{kind}{list(value.shape)} of strides {list(value.stride())}"


def show_case(name: str, seed: int, number: int) -> None:
    """Prints a case's arguments with their values."""
    call, _ = draw_call(name, seed, number)
    print(described(call))
    torch.set_printoptions(precision=17, threshold=400, linewidth=160)
    try:
        for argument, value in call.arguments.items():
            if isinstance(value, Tensor):
                print(f"{argument} = {value}")
    finally:
        torch.set_printoptions(profile="default")  # or later tests of this process print so, too
