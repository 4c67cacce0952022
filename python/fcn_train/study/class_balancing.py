"""Classes balanced by weighting the loss and by sampling it (section 4.3)."""

from __future__ import annotations

from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import with_optim
from fcn_train.study.variants import Variant

PAPER = (
    "section 4.3, class balancing: the loss can be weighted or sampled to balance classes. Though "
    "about 3/4 of VOC's pixels are background, balancing is found to be unnecessary. There are no "
    "figures."
)
BALANCE = "median-frequency"


def variants(base: TrainOptions) -> list[Variant]:
    """Classes as they are, weighted, and with fewer pixels of the frequent ones."""
    plain = with_optim(base, class_weights="none", class_sampling="none")
    return [
        Variant("as they are", (plain,)),
        Variant("weighted", (with_optim(plain, class_weights=BALANCE),)),
        Variant("sampled", (with_optim(plain, class_sampling=BALANCE),)),
    ]


run = comparison("Class balancing", PAPER, variants)
