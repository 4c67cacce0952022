"""Losses that people train dense prediction with, straight from coarse scores.

Each takes coarse scores (N, C, h, w), a target at full size and a geometry
(:mod:`fcn_ext.geometry`), equals its plain formula on the scores at full size, and never stores
them there. The same bits on every run. As modules they are in :mod:`fcn_ext.nn`; their formulas in
plain PyTorch are in :mod:`fcn_ext.reference_losses`.
"""

from __future__ import annotations

import torch.fx

from fcn_ext.losses._conventions import CONVENTIONS, Convention
from fcn_ext.losses._cross_entropy import cross_entropy, pixel_accuracy
from fcn_ext.losses._deep_supervision import deep_supervision
from fcn_ext.losses._distillation import distillation_loss
from fcn_ext.losses._focal import focal_loss
from fcn_ext.losses._ohem import ohem_cross_entropy
from fcn_ext.losses._region_losses import (
    dice_cross_entropy_loss,
    dice_loss,
    generalized_dice_loss,
    jaccard_loss,
    tversky_loss,
)
from fcn_ext.losses._sigmoid import (
    sigmoid_cross_entropy,
    sigmoid_dice_loss,
    sigmoid_focal_loss,
)

__all__ = [
    "CONVENTIONS",
    "Convention",
    "cross_entropy",
    "deep_supervision",
    "dice_cross_entropy_loss",
    "dice_loss",
    "distillation_loss",
    "focal_loss",
    "generalized_dice_loss",
    "jaccard_loss",
    "ohem_cross_entropy",
    "pixel_accuracy",
    "sigmoid_cross_entropy",
    "sigmoid_dice_loss",
    "sigmoid_focal_loss",
    "tversky_loss",
]

# One node each for torch.fx.symbolic_trace, whose proxies have no shape to check.
for _name in __all__:
    if _name.islower():
        torch.fx.wrap(_name)
