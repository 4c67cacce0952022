"""The length of a run, and the steps after which it is scored and saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fcn_train.optim_options import OptimOptions
from fcn_train.words import counted


def planned_length(optim: OptimOptions) -> str:
    """How long a run is to be, in words."""
    return counted(optim.steps, "step") if optim.steps else counted(optim.epochs, "epoch", "g")


def steps_of(optim: OptimOptions, images: int) -> int:
    """How many steps a run over ``images`` takes."""
    return optim.steps or math.ceil(optim.epochs * (images / (optim.batch * optim.accumulate)))


@dataclass(frozen=True)
class Schedule:
    """The steps of a run. Steps are counted from 1; "after step 0" is before the first.

    Attributes:
        steps: length of the run.
        steps_per_epoch: a fraction unless the images are a multiple of a step's.
        evaluate_every, checkpoint_every: steps between evaluations, and between checkpoints.
    """

    steps: int
    steps_per_epoch: float
    evaluate_every: int
    checkpoint_every: int

    @staticmethod
    def of(
        optim: OptimOptions, images: int, *, evaluate_every: float, checkpoint_every: int
    ) -> Schedule:
        """The schedule over ``images``; ``evaluate_every`` counts epochs, 0 is only at the end."""
        steps_per_epoch = images / (optim.batch * optim.accumulate)
        steps = steps_of(optim, images)
        every = steps
        if evaluate_every:  # a step may be longer, and the product infinite
            every = max(1, round(min(evaluate_every * steps_per_epoch, steps)))
        return Schedule(steps, steps_per_epoch, every, checkpoint_every)

    def evaluates_after(self, step: int) -> bool:
        """Whether to score the network between two steps; the last one is left to the report."""
        return 0 < step < self.steps and step % self.evaluate_every == 0

    def saves_after(self, step: int) -> bool:
        periodic = step % self.checkpoint_every == 0
        return step > 0 and (self.evaluates_after(step) or step == self.steps or periodic)

    def epoch(self, step: int) -> float:
        return step / self.steps_per_epoch
