"""How long a run is, and after which steps it is scored and saved."""

from __future__ import annotations

import pytest

from fcn_train.options import OptimOptions
from fcn_train.schedule import Schedule


@pytest.mark.parametrize(
    ("optim", "steps"),
    [
        (OptimOptions(batch=4, accumulate=2, epochs=3.0), 4),  # of 10 images, 8 per step
        (OptimOptions(batch=1, epochs=0.01), 1),
        (OptimOptions(batch=8, epochs=30.0, steps=7), 7),
    ],
)
def test_length(optim: OptimOptions, steps: int) -> None:
    schedule = Schedule.of(optim, 10, evaluate_every=0, checkpoint_every=5)
    assert schedule.steps == steps
    assert schedule.epoch(steps) == steps * optim.batch * optim.accumulate / 10


def test_moments() -> None:
    optim = OptimOptions(batch=5, steps=12)
    schedule = Schedule.of(optim, 10, evaluate_every=2.5, checkpoint_every=3)
    steps = range(13)
    assert [step for step in steps if schedule.evaluates_after(step)] == [5, 10]
    assert [step for step in steps if schedule.saves_after(step)] == [3, 5, 6, 9, 10, 12]


def test_evaluation_at_the_end_alone() -> None:
    schedule = Schedule.of(OptimOptions(steps=6), 10, evaluate_every=0, checkpoint_every=100)
    assert not any(schedule.evaluates_after(step) for step in range(7))
    assert [step for step in range(7) if schedule.saves_after(step)] == [6]


@pytest.mark.parametrize(
    ("every", "moments"),
    [
        (0.25, range(1, 6)),  # half a step
        (1e-9, range(1, 6)),
        (2.5, [5]),  # the last one is left to the report
        (1e307, []),
        (1.7e308, []),  # times the steps of an epoch, more than a float holds
    ],
)
def test_evaluations_closer_than_steps_and_past_the_end(every: float, moments: list[int]) -> None:
    schedule = Schedule.of(
        OptimOptions(batch=5, steps=6), 10, evaluate_every=every, checkpoint_every=100
    )
    assert [step for step in range(7) if schedule.evaluates_after(step)] == list(moments)
