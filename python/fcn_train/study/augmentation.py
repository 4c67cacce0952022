"""Mirroring and jitter (section 4.3)."""

from __future__ import annotations

from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import with_data
from fcn_train.study.variants import Variant

JITTER = 32
PAPER = (
    "section 4.3, augmentation: mirroring and translations by up to 32 pixels gave no noticeable "
    "improvement. There are no figures."
)


def variants(base: TrainOptions) -> list[Variant]:
    """Neither, either and both, on whole images."""
    plain = with_data(base, crop=0, scale=(1.0, 1.0), mirror=False, jitter=0)
    return [
        Variant("none", (plain,)),
        Variant("mirrored", (with_data(plain, mirror=True),)),
        Variant("moved", (with_data(plain, jitter=JITTER),)),
        Variant("mirrored and moved", (with_data(plain, mirror=True, jitter=JITTER),)),
    ]


run = comparison("Augmentation", PAPER, variants)
