"""Compares every operator with plain PyTorch, and times both."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fcn_train.doctor.inputs import Check, checks

# Errors are relative to the largest value of the result. Sums of 30,000 float32 terms stay
# far below; a wrong weight, pixel or class lies far above.
TOLERANCE = 1e-4
# What all races on a device together take, where two rounds each do not take longer.
RACE_SECONDS = 0.5


@dataclass(frozen=True)
class Finding:
    """What the self-test found of one operator.

    Attributes:
        name, device: of the operator, and where it ran.
        forward, gradient: largest error relative to the largest value of float64; infinite where
            results differ in kind, None of a function without a gradient.
        speed: seconds that torch's own way takes for each second of ours, forward and backward,
            on one thread.
        problem: what is wrong, in one line; "" where nothing is.
    """

    name: str
    device: str
    forward: float | None = None
    gradient: float | None = None
    speed: float | None = None
    problem: str = ""

    def values(self) -> dict[str, Any]:
        """As JSON has it, with null for infinity."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def self_test(
    device: torch.device,
    begin: Callable[[str], None] = lambda name: None,
    tested: Iterable[Check] | None = None,
    seconds: float = RACE_SECONDS,
) -> Iterator[Finding]:
    """Test every operator on ``device``.

    Args:
        device: CPU or CUDA.
        begin: called with the names of an operator and its device before it is: it may not come
            back.
        tested: the checks; default all.
        seconds: of all races together.
    """
    chosen = checks(device) if tested is None else list(tested)
    for check in chosen:
        begin(f"{check.name} on {device.type}")
        try:
            forward, gradient = errors(check)
            speed = race(check, device, seconds / len(chosen))
        except Exception as error:
            text = " ".join(str(error).split())
            yield Finding(check.name, device.type, problem=f"{type(error).__name__}: {text}")
            continue
        wrong = [
            f"{what} is wrong: it differs from plain PyTorch by {value:.2g} of its largest value"
            for what, value in (("result", forward), ("gradient", gradient))
            if value is not None and not value <= TOLERANCE
        ]
        yield Finding(check.name, device.type, forward, gradient, speed, "; ".join(wrong))


def errors(check: Check) -> tuple[float, float | None]:
    """The errors of forward and gradient in float32, against the specification in float64."""
    results, grads = _called(check.ours, check, torch.float32)
    with _one_thread():
        expected, true_grads = _called(check.plain, check, torch.float64)
    forward = _distance(results, expected)
    if len(grads) != len(true_grads):
        return forward, math.inf
    return forward, _distance(grads, true_grads) if grads else None


def race(check: Check, device: torch.device, seconds: float) -> float:
    """How many times as fast as torch's own way the operator is, by the fastest of rounds in which
    each is called once, in turn.

    On one thread: where others use the machine, too, threads that wait for each other would be
    what is measured.
    """
    ways = (check.ours, check.torch_way or check.plain)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    with _one_thread():
        while len(times[0]) < 2 or time.perf_counter() < end:
            for way, taken in zip(ways, times, strict=True):
                _wait(device)
                began = time.perf_counter()
                _called(way, check, torch.float32)
                _wait(device)
                taken.append(time.perf_counter() - began)
    return min(times[1]) / min(times[0])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _called(
    function: Callable[..., Any], check: Check, dtype: torch.dtype
) -> tuple[list[Any], list[Tensor]]:
    """Results, and gradients of the arguments that require them for whole-numbered cotangents."""
    leaves: list[Tensor] = []

    def placed(value: Any) -> Any:
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(placed(item) for item in value)
        if isinstance(value, Tensor) and value.is_floating_point():
            copy = value.detach().to(dtype).requires_grad_(value.requires_grad)
            if value.requires_grad:
                leaves.append(copy)
            return copy
        return value

    keywords = {key: placed(value) for key, value in check.keywords.items()}
    made = function(*(placed(value) for value in check.arguments), **keywords)
    results = [one for one in (made if isinstance(made, tuple) else (made,)) if one is not None]
    differentiable = [one for one in results if isinstance(one, Tensor) and one.requires_grad]
    if not differentiable:
        return results, []
    cotangents = [
        (torch.arange(one.numel(), device=one.device).reshape(one.shape) % 7 - 2).to(one.dtype)
        for one in differentiable
    ]
    grads = torch.autograd.grad(differentiable, leaves, cotangents, allow_unused=True)
    return results, [grad for grad in grads if grad is not None]


def _distance(found: list[Any], expected: list[Any]) -> float:
    """The largest error of ``found``, relative; what the specification adds at its end is left."""
    if len(found) > len(expected):
        return math.inf
    worst = 0.0
    for one, true in zip(found, expected, strict=False):
        if isinstance(one, Tensor):
            one, true = one.detach(), true.detach()
        if not isinstance(one, Tensor):
            worst = max(worst, 0.0 if one == true else math.inf)
        elif one.shape != true.shape:
            worst = math.inf
        elif not one.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(one, true.to(one.dtype)) else math.inf)
        else:
            scale = float(true.abs().max()) or 1.0
            error = float((one.double() - true.double()).abs().max()) / scale
            worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
