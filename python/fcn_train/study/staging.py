"""Skips added in stages, or trained at once (section 4.2 of the journal version)."""

from __future__ import annotations

from fcn_train.errors import UsageError
from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import family, with_model, with_optim
from fcn_train.study.variants import Variant

PAPER = (
    "both reach the same, staged training takes longer in all: 65.5 % staged, 65.4 % at once "
    "(authors' repository, on seg11valid). At once, skips are scaled by 0.01 and 0.0001."
)


def variants(base: TrainOptions) -> list[Variant]:
    """As many steps for all: a third for each stage, or all of them at once."""
    steps = base.optim.steps
    if not steps or steps % 3:
        raise UsageError(f"--optim.steps must be a multiple of 3 here, got {steps}")
    nets = family(base.model.name)
    stages = tuple(with_optim(with_model(base, net), steps=steps // 3) for net in nets)
    return [
        Variant("staged", stages, 65.5),
        Variant("at once, skips scaled", (with_model(base, f"{nets[-1]}-atonce"),), 65.4),
        Variant("at once, skips as they are", (with_model(base, nets[-1]),)),
    ]


run = comparison("Staged against at-once training", PAPER, variants)
