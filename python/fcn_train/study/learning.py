"""Heavy against online learning and accumulated gradients (the journal version's)."""

from __future__ import annotations

from fcn_train.errors import UsageError
from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import with_optim
from fcn_train.study.variants import Variant

ACCUMULATED = 20
PAPER = (
    "momentum p with batches of k images is like momentum p ** (1/k) with one: 0.9 ** (1/20) is "
    "about 0.99. This heavy learning does best, 63.6 % for FCN-32s (authors' repository, on "
    "seg11valid)."
)


def variants(base: TrainOptions) -> list[Variant]:
    """As many images for all, one in each forward pass."""
    steps = base.optim.steps
    if not steps or steps % ACCUMULATED:
        raise UsageError(f"--optim.steps must be a multiple of {ACCUMULATED} here, got {steps}")
    one = with_optim(base, batch=1, accumulate=1)
    few = steps // ACCUMULATED
    return [
        Variant(
            "accumulated, 20 images, momentum 0.9",
            (with_optim(one, accumulate=ACCUMULATED, steps=few, momentum=0.9),),
        ),
        Variant("online, 1 image, momentum 0.9", (with_optim(one, momentum=0.9),)),
        Variant("heavy, 1 image, momentum 0.99", (with_optim(one, momentum=0.99),), 63.6),
    ]


run = comparison("Heavy against accumulated learning", PAPER, variants)
