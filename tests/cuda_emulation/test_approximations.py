"""Approximate functions in the emulation, off by as much as hardware may be, and the errors of
losses and probabilities with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from . import argmax_cases, cross_entropy_cases
from .cross_entropy_cases import Case
from .library import APPROXIMATIONS
from .maps import Map, scaling, upsampling
from .operands import INF, NAN

if TYPE_CHECKING:
    from .library import Emulation

# In the order of entry_points/approximations.cpp: name, largest error in ulp, what it computes.
FUNCTIONS = [
    ("ex2", 2, torch.exp2),
    ("rcp", 1, torch.reciprocal),
    ("expf", 2, torch.exp),
    ("logf", 1, torch.log),
    ("exp", 1, torch.exp),
    ("log", 1, torch.log),
]
NAMES = [name for name, _, _ in FUNCTIONS]
CHAIN = len(FUNCTIONS)


def approximate(emulation: Emulation, function: int, values: Tensor) -> Tensor:
    result = torch.full_like(values, NAN)
    emulation.call("approximate", function, values.numel(), values, result)
    return result


def ordinal(values: Tensor) -> Tensor:
    """The number of each value among all values of its type: neighbors differ by one."""
    integer = torch.int32 if values.dtype == torch.float32 else torch.int64
    bits = values.view(integer).long()
    return torch.where(bits < 0, torch.iinfo(integer).min - bits, bits)


def arguments(function: int) -> Tensor:
    generator = torch.Generator().manual_seed(function)
    dtype = torch.float64 if NAMES[function] in ("exp", "log") else torch.float32
    values = torch.randn(4000, generator=generator, dtype=dtype) * 20
    return values.abs() + 2 if NAMES[function].startswith(("log", "rcp")) else values


@pytest.mark.parametrize("function", range(len(FUNCTIONS)), ids=NAMES)
def test_errors(emulation: Emulation, function: int) -> None:
    _, most, exactly = FUNCTIONS[function]
    values = arguments(function)
    emulation.set_approximation("exact")
    exact = approximate(emulation, function, values)
    # Rounded twice, or by a library that is not always right in the last bit.
    assert (ordinal(exact) - ordinal(exactly(values.double()).to(exact.dtype))).abs().max() <= 1
    expected = {
        "exact": {0},
        "random": set(range(-most, most + 1)),
        "up": {most},
        "down": {-most},
        "spread": set(range(most + 1)),
    }
    assert list(expected) == APPROXIMATIONS
    for approximation, errors in expected.items():
        emulation.set_approximation(approximation, 3)
        found = ordinal(approximate(emulation, function, values)) - ordinal(exact)
        assert set(found.tolist()) == errors
        for error in errors:  # all about equally often
            share = float((found == error).double().mean()) * len(errors)
            assert 0.8 < share < 1.2


def test_errors_belong_to_arguments_and_seed(emulation: Emulation) -> None:
    values = arguments(0)
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))
    for approximation in ("random", "spread"):
        emulation.set_approximation(approximation, 1)
        first = approximate(emulation, 0, values)
        assert torch.equal(approximate(emulation, 0, values[order]), first[order])
        emulation.set_approximation(approximation, 2)
        assert not torch.equal(approximate(emulation, 0, values), first)


SPECIAL = [0.0, -0.0, 1e-40, -1e-40, INF, -INF, NAN]


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        ("ex2", SPECIAL, [1.0, 1.0, 1.0, 1.0, INF, 0.0, NAN]),
        ("ex2", [-126.5, -150.0, 128.0], [0.0, 0.0, INF]),
        ("rcp", SPECIAL, [INF, -INF, INF, -INF, 0.0, -0.0, NAN]),
        ("rcp", [1.5 * 2.0**126, -(2.0**127)], [0.0, -0.0]),
        ("expf", SPECIAL, [1.0, 1.0, 1.0, 1.0, INF, 0.0, NAN]),
        ("logf", [1.0, 0.0, INF, NAN], [0.0, -INF, INF, NAN]),
    ],
)
def test_special_values(
    emulation: Emulation,
    function: str,
    values: list[float],
    expected: list[float],
    approximation: str,
) -> None:
    if function == "expf":
        values = [value if abs(value) != 1e-40 else 0.0 for value in values]
    emulation.set_approximation(approximation)
    found = approximate(emulation, NAMES.index(function), torch.tensor(values))
    wanted = torch.tensor(expected)
    assert torch.equal(found.nan_to_num(nan=-5.0), wanted.nan_to_num(nan=-5.0))
    assert torch.equal(found.signbit(), wanted.signbit() | found.isnan() & found.signbit())


def test_least_normal_result_is_flushed_when_it_comes_out_too_small(emulation: Emulation) -> None:
    least = torch.tensor([-126.0])
    emulation.set_approximation("up")
    assert approximate(emulation, 0, least).item() > 2.0**-126
    emulation.set_approximation("down")
    assert approximate(emulation, 0, least).item() == 0


def test_bias_of_a_long_product_shows(emulation: Emulation) -> None:
    values = torch.linspace(0.01, 0.2, 50)
    exact = torch.exp2(64 * values.double())
    errors = {}
    for approximation in APPROXIMATIONS:
        emulation.set_approximation(approximation)
        found = approximate(emulation, CHAIN, values).double()
        errors[approximation] = float((found / exact - 1).abs().max())
    assert errors["exact"] < 6e-6
    assert errors["up"] > 1e-5
    assert errors["down"] > 1e-5


# ---------------------------------------------------------------- operators

LOSS_MAPS = {
    "s2": upsampling((5, 9), 2, crop=(1, 0, 0, 3)),
    "s4": upsampling((3, 9), 4),
    "x8": scaling((3, 4), 8),
    "s8": upsampling((3, 4), 8, crop=(1, 2, 3, 4)),
    "s16": upsampling((2, 4), 16),
    "x32": scaling((1, 3), 32),
    "direct": upsampling((3, 4), 3),
}
# A loss should have a relative error of 1e-6. No GPU is known to err by the most in one direction
# everywhere; if one did, progressions of 8 by 8 pixels would multiply the error.
LOSS_TOLERANCE = {"exact": 1e-6, "random": 1e-6, "up": 2e-6, "down": 2e-6, "spread": 1e-6}


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
@pytest.mark.parametrize("name", LOSS_MAPS)
def test_cross_entropy(emulation: Emulation, name: str, approximation: str) -> None:
    generator = torch.Generator().manual_seed(len(name))
    map, classes = LOSS_MAPS[name], 21
    for seed, (smoothing, scale, common) in enumerate([(0.0, 3.0, 0), (0.1, 1.0, 1e4)]):
        emulation.set_approximation(approximation, seed)
        case = Case(map, label_smoothing=smoothing)
        shape = (2, classes, *map.input_size)
        input = cross_entropy_cases.scores(generator, shape, scale=scale)
        input += common
        target = cross_entropy_cases.labels(generator, (2, *map.output_size), classes)
        wanted = cross_entropy_cases.expected(case, input, target)
        for with_gradient in (True, False):
            result = cross_entropy_cases.call(
                emulation, case, input, target, with_gradient=with_gradient
            )
            loss = wanted.loss.sum()
            cross_entropy_cases.close(result.loss, loss, LOSS_TOLERANCE[approximation], 0)
            if with_gradient:
                cross_entropy_cases.close(result.gradient, wanted.gradient, 1e-5)


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_probability(emulation: Emulation, approximation: str) -> None:
    for seed, map in enumerate((Map((4, 7), (32, 56)), Map((4, 7), (3, 9)))):
        emulation.set_approximation(approximation, seed)
        input = 3 * argmax_cases.scores(14, (2, 21, 4, 7))
        probability = torch.full((2, *map.output_size), NAN)
        argmax_cases.argmax(emulation, map, input, probability=probability)
        expected = map.reference(input.double()).softmax(1).amax(1)
        torch.testing.assert_close(probability.double(), expected, rtol=2e-5, atol=0)
