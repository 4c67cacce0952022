"""The sums of regions as a convention takes them, and how losses smooth and reduce them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.geometry import Geometry
from fcn_ext.losses import _processes
from fcn_ext.losses._conventions import Convention, convention_of
from fcn_ext.ops import _common
from fcn_ext.ops._region_sums import stacked_region_sums


class Regions:
    """The sums of regions as a convention takes them: (images or one, classes), float64."""

    def __init__(
        self,
        input: Tensor,
        target: Tensor,
        geometry: Geometry,
        convention: str | Convention,
        squared: bool,
        ignore_index: int,
        group: Any,
        weight: Tensor | None = None,
        with_loss: bool = False,
    ) -> None:
        self.convention = convention_of(convention)
        self._group = _processes.of_group(group)
        # As few steps as possible: each is a node of the graph, and for one small image they take a
        # good part of the time.
        parts, self.entropies = stacked_region_sums(
            input, target, geometry, weight, ignore_index, squared, with_loss
        )
        self.dtype = _common.accumulate_dtype(input)
        self.first_class = 0 if self.convention.background or input.shape[1] == 1 else 1
        if self.first_class != 0:
            parts = parts[:, :, self.first_class :]
        if self.convention.over == "batch":
            if parts.shape[1] != 1:
                parts = parts.sum(1, keepdim=True)
            parts = _processes.summed(parts, self._group)
        self.probability, self.intersection, self.pixels, *squares = parts.unbind()
        if squared:
            (self.probability,) = squares
        self.pixels = self.pixels.detach()

    def losses(
        self,
        numerator: Tensor,
        denominator: Tensor,
        log: bool,
        smoothing: float = 1.0,
        absent: bool = False,
    ) -> Tensor:
        """The loss of each region; with ``absent``, also of classes without a pixel."""
        how = self.convention
        if how.smooth_numerator != 0:
            numerator = numerator + smoothing * how.smooth_numerator
        if how.smooth_denominator != 0:
            denominator = denominator + smoothing * how.smooth_denominator
        least = how.least_denominator
        denominator = denominator.clamp(min=least)
        smoothed = least != 0 or smoothing * how.smooth_denominator != 0
        score = numerator / denominator if smoothed else share(numerator, denominator)
        if log:
            score = score.clamp(min=least)
        if not (how.absent or absent):
            # Not the loss: a logarithm's slope may be infinite, and zero times infinity is NaN.
            score = torch.where(self.pixels > 0, score, 1)
        return _minus_log(score, least > 0) if log else 1 - score

    def reduced(self, losses: Tensor, class_weight: Tensor | None, reduction: str) -> Tensor:
        if class_weight is not None:
            weight = self._class_weight(class_weight, losses)
            if reduction == "mean" and self.convention.normalize_weights:
                weight = weight / _not_zero(weight.mean())
            losses = losses * weight
        if reduction == "none" and self.convention.over == "batch":
            losses = losses[0]
        return reduced_regions(losses.to(self.dtype), reduction)

    def _class_weight(self, weight: Tensor, losses: Tensor) -> Tensor:
        _common.weights(weight, "class_weight", losses)
        classes = losses.shape[1] + self.first_class
        if weight.shape != (classes,):
            raise ValueError(
                f"class_weight must have shape (num_classes,) = ({classes},), "
                f"got {tuple(weight.shape)}"
            )
        return weight.detach()[self.first_class :].to(losses.dtype)

    def cross_entropy(self) -> Tensor:
        sums = _processes.summed(self.entropies.sum(1), self._group)
        loss, weight = sums.unbind()
        weight = weight.detach()
        return (loss / _not_zero(weight)).to(self.dtype)


def _not_zero(number: Tensor) -> Tensor:
    """``number``, or one if it is zero, as a divisor."""
    return torch.where(number != 0, number, 1)


def share(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; one, with a slope of zero, where the whole is zero."""
    nothing = whole == 0
    return torch.where(nothing, 1, part) / torch.where(nothing, 1, whole)


def _minus_log(score: Tensor, positive: bool) -> Tensor:
    """``-ln score``; infinite at zero, with a slope of zero. With ``positive``, no score is
    zero."""
    if positive:
        return 0 - score.log()
    nothing = score == 0
    return torch.where(nothing, torch.inf, 0 - torch.where(nothing, 1, score).log())


def reduced_regions(losses: Tensor, reduction: str) -> Tensor:
    """The losses of all regions as ``reduction`` says."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if losses.numel() != 0 else losses.sum()
