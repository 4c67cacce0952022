"""Skips one by one, and single maps (section 4.2)."""

from __future__ import annotations

from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import family, with_model
from fcn_train.study.variants import Variant

PAPER = (
    "Table 2 of the conference version, on seg11valid: 45.4 % with the last layer alone trained, "
    "59.4 % for FCN-32s, 62.4 % with pool4 and 62.7 % with pool3; scores of pool4 alone do poorly."
)


def variants(base: TrainOptions) -> list[Variant]:
    """Each net starts from the coarser one, as published; single maps of VGG16 beside them."""
    nets = family(base.model.name)
    stages = [with_model(base, net) for net in nets]
    found = [
        Variant(net, tuple(stages[: number + 1]), paper)
        for number, (net, paper) in enumerate(zip(nets, (59.4, 62.4, 62.7), strict=True))
    ]
    if nets[0] == "fcn32s":
        maps = ("fcn-pool5", "fcn-pool4", "fcn-pool3")
        found += [Variant(f"{m[4:]} alone", (with_model(base, m, fc_channels=0),)) for m in maps]
    return found


run = comparison("Skips one by one", PAPER, variants)
