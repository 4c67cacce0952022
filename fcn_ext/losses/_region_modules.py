"""The region losses as modules, which fcn_ext.nn exports."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _region_losses
from fcn_ext.losses._conventions import Convention
from fcn_ext.losses._modules import LossModule


class DiceLoss(LossModule):
    """:func:`fcn_ext.losses.dice_loss` with all but scores and target fixed;
    ``class_weight`` is a buffer."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        convention: str | Convention = "smp",
        squared: bool = False,
        log: bool = False,
        class_weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "convention": convention,
            "squared": squared,
            "log": log,
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(_region_losses.dice_loss, geometry, options, ["class_weight"])


class JaccardLoss(LossModule):
    """:func:`fcn_ext.losses.jaccard_loss` with all but scores and target fixed;
    ``class_weight`` is a buffer."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        convention: str | Convention = "smp",
        squared: bool = False,
        log: bool = False,
        class_weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "convention": convention,
            "squared": squared,
            "log": log,
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(_region_losses.jaccard_loss, geometry, options, ["class_weight"])


class TverskyLoss(LossModule):
    """:func:`fcn_ext.losses.tversky_loss` with all but scores and target fixed;
    ``class_weight`` is a buffer."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        convention: str | Convention = "smp",
        squared: bool = False,
        log: bool = False,
        class_weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "convention": convention,
            "squared": squared,
            "log": log,
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(_region_losses.tversky_loss, geometry, options, ["class_weight"])


class GeneralizedDiceLoss(LossModule):
    """:func:`fcn_ext.losses.generalized_dice_loss` with all but scores and target fixed."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        weighting: str = "square",
        convention: str | Convention = "monai",
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "weighting": weighting,
            "convention": convention,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(_region_losses.generalized_dice_loss, geometry, options)


class DiceCrossEntropyLoss(LossModule):
    """:func:`fcn_ext.losses.dice_cross_entropy_loss` with all but scores and target fixed;
    ``weight`` and ``class_weight`` are buffers."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        weight: Tensor | None = None,
        convention: str | Convention = "smp",
        squared: bool = False,
        log: bool = False,
        class_weight: Tensor | None = None,
        ignore_index: int = 255,
        group: Any = None,
    ) -> None:
        options = {
            "dice_weight": dice_weight,
            "cross_entropy_weight": cross_entropy_weight,
            "weight": weight,
            "convention": convention,
            "squared": squared,
            "log": log,
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "group": group,
        }
        weights = ["weight", "class_weight"]
        super().__init__(_region_losses.dice_cross_entropy_loss, geometry, options, weights)
