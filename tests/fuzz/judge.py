"""One call, ours and the plain one: what must be equal, and by how much it may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Rounding of the accumulation type and of results, by dtype of the scores.
_EPS = {torch.float64: 2.0**-52}
_UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


class Fault(Exception):
    """A result that is not what was promised."""


def eps(dtype: torch.dtype) -> float:
    """One unit in the last place of 1, in the type that sums over ``dtype`` are kept in."""
    return _EPS.get(dtype, 2.0**-23)


@dataclass
class Call:
    """A call of a public function, and what is expected of it.

    Args:
        function: of fcn_ext.
        arguments: by name.
        differentiable: names of the arguments that have a gradient.
        plain: the same in float64, given the differentiable arguments as float64; results in the
            order of ``results``.
        results: what ``function`` returned as a tuple of tensors.
        error: by how much each result may differ, a number or a tensor that fits it.
        slope_error: by how much gradients may differ in units of their own largest terms, with
            ``terms`` the largest sum of weights that a node has; None: not compared.
        judge: in place of all this, looks at the results itself.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    differentiable: tuple[str, ...] = ()
    plain: Callable[..., tuple[Tensor, ...]] | None = None
    results: Callable[[Any], tuple[Tensor, ...]] = lambda found: (found,)
    error: Callable[[tuple[Tensor, ...]], list[Any]] | None = None
    slope_error: Callable[[tuple[Tensor, ...]], list[Any]] | None = None
    judge: Callable[[tuple[Tensor, ...]], None] | None = None
    name: str = ""

    def call(self, **replaced: Any) -> Any:
        return self.function(**{**self.arguments, **replaced})

    @property
    def dtype(self) -> torch.dtype:
        """Of the scores."""
        dtype: torch.dtype = self.arguments[self.differentiable[0]].dtype
        return dtype


def examine(call: Call, cotangents: Callable[[Tensor], Tensor], threads: tuple[int, int]) -> None:
    """Calls twice, with two numbers of threads: equal bits, no argument changed, the right values.

    Raises:
        Fault: one of these is not so.
    """
    before = {name: _copied(value) for name, value in call.arguments.items()}
    runs = []
    seeds: list[Tensor] = []
    for count in threads:
        torch.set_num_threads(count)
        runs.append(_run(call, cotangents, seeds))
    for name, value in call.arguments.items():
        if isinstance(value, Tensor) and not _same_bits(value, before[name]):
            raise Fault(f"{name} was changed")
    (results, slopes), again = runs[0], runs[1]
    for first, second in zip([*results, *slopes], [*again[0], *again[1]], strict=True):
        if not _same_bits(first, second):
            raise Fault(f"two calls differ in their bits: {_difference(first, second)}")
    if call.judge is not None:
        call.judge(results)
    if call.plain is not None:
        _compare(call, results, slopes, seeds)


def _run(
    call: Call, cotangents: Callable[[Tensor], Tensor], seeds: list[Tensor]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Results, and gradients of a random mixture of them (of the same one for every run)."""
    leaves = {name: call.arguments[name].detach().requires_grad_() for name in call.differentiable}
    found = call.results(call.call(**leaves))
    smooth = [result for result in found if result.requires_grad]
    if not leaves or not smooth:
        return tuple(result.detach() for result in found), []
    if not seeds:
        seeds += [cotangents(result) for result in smooth]
    slopes = torch.autograd.grad(smooth, list(leaves.values()), seeds)
    for name, slope in zip(leaves, slopes, strict=True):
        if slope.shape != leaves[name].shape or slope.dtype != leaves[name].dtype:
            raise Fault(f"the gradient of {name} is {slope.dtype} {tuple(slope.shape)}")
    results = tuple(result.detach() for result in found)
    with torch.no_grad():  # the pass without a gradient is another one
        alone = call.results(call.call())
    if call.error is not None:
        for result, single, error in zip(results, alone, call.error(results), strict=True):
            bound = 2 * _rounded(error, result.double(), result.dtype)
            if not _near(single.double(), result.double(), bound):
                raise Fault(f"without gradient: {_difference(single, result)}")
    return results, list(slopes)


def max_of(errors: list[Any]) -> float:
    return max(float(torch.as_tensor(e).max()) if torch.as_tensor(e).numel() else 0 for e in errors)


def _compare(
    call: Call, results: tuple[Tensor, ...], slopes: list[Tensor], seeds: list[Tensor]
) -> None:
    assert call.plain is not None
    leaves = [call.arguments[name].detach().double() for name in call.differentiable]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    expected = call.plain(*leaves)
    assert call.error is not None
    errors = call.error(tuple(e.detach() for e in expected))
    for place, (result, exact, error) in enumerate(zip(results, expected, errors, strict=True)):
        exact = exact.detach().double()
        if result.shape != exact.shape:
            raise Fault(f"result {place} is {tuple(result.shape)}, not {tuple(exact.shape)}")
        bound = _rounded(error, exact, result.dtype)
        if not _near(result.double(), exact, bound):
            raise Fault(f"result {place}: {_difference(result, exact)}; allowed {max_of([bound])}")
    if not slopes or call.slope_error is None:
        return
    if not all(bool(e.isfinite().all()) for e in expected):
        return  # what torch makes of it follows from the order in which it computes
    smooth = [e for e in expected if e.requires_grad]
    wide = [seed.double() for seed in seeds]
    exact_slopes = torch.autograd.grad(smooth, leaves, wide, allow_unused=True)
    errors = call.slope_error(tuple(seeds))
    for name, slope, exact, error in zip(
        call.differentiable, slopes, exact_slopes, errors, strict=True
    ):
        exact = torch.zeros_like(slope, dtype=torch.float64) if exact is None else exact
        bound = _rounded(error, exact, slope.dtype)
        if bool(exact.isfinite().all()) and not _near(slope.double(), exact, bound):
            raise Fault(
                f"gradient of {name}: {_difference(slope, exact)}; allowed {max_of([bound])}"
            )


def _rounded(error: Any, exact: Tensor, dtype: torch.dtype) -> Any:
    """The error, with that of rounding the exact value to ``dtype``."""
    unit = _UNIT.get(dtype, 2.0**-24 if dtype == torch.float32 else 2.0**-53)
    tiny = 2.0**-24 if dtype == torch.float16 else 1e-37 if dtype != torch.float64 else 0.0
    return error + 1.01 * unit * exact.abs().nan_to_num(0, 0, 0) + tiny


def _near(actual: Tensor, exact: Tensor, error: Any) -> bool:
    """Within ``error`` where finite, else the same infinity or NaN."""
    same = (actual == exact) | (actual.isnan() & exact.isnan())
    return bool((same | ((actual - exact).abs() <= error)).all())


def _difference(first: Tensor, second: Tensor) -> str:
    """Where two tensors differ most, and their values there."""
    first, second = first.double(), second.double()
    same = (first == second) | (first.isnan() & second.isnan())
    gap = torch.where(same, 0, (first - second).abs().nan_to_num(torch.inf))
    if not gap.numel():
        return "nothing"
    place = int(gap.flatten().argmax())
    where = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), gap.shape))
    return f"{float(first[where])!r} at {where}, expected {float(second[where])!r}"


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _same_bits(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.dtype.is_floating_point:
        kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[first.element_size()]
        first, second = first.contiguous().view(kind), second.contiguous().view(kind)
    return torch.equal(first, second)
