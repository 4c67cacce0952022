"""The losses of single pixels of masks, by the cross-entropy of two classes.

``softplus(-x)`` and ``softplus(x)``, the losses of a pixel that is to be one and zero, are those of
the scores ``[0, x]`` with the labels 1 and 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import _mask_rules, ops
from fcn_ext.geometry import Geometry
from fcn_ext.losses._focal import Focused
from fcn_ext.ops import _common


def two_classes(scores: Tensor) -> Tensor:
    """Of each mask of (N, Q, h, w) the scores of its two classes, (N * Q, 2, h, w)."""
    # Not torch.cat, which autocast refuses in float16 on the CPU.
    return F.pad(scores.flatten(0, 1).unsqueeze(1), (0, 0, 0, 0, 1, 0))


def every_pixel(label: int, target: Tensor) -> Tensor:
    """One label for all pixels of a target (N, Q, H, W), as (N * Q, H, W) that take no memory."""
    shape = (target.shape[0] * target.shape[1], *target.shape[2:])
    return torch.tensor(label, dtype=torch.uint8, device=target.device).expand(shape)


class MaskPixels:
    """Masks (N, Q, H, W) and the scores that are to reach them."""

    def __init__(
        self,
        input: Tensor,
        target: Tensor,
        geometry: Geometry,
        ignore_index: int,
        gamma: float | None = None,
    ) -> None:
        _common.on_same_device(input, "input", target, "target")
        numbers = _common.is_geometry(geometry).numbers
        _mask_rules.check_sigmoid_sums(input, target, numbers, gamma)
        self._gamma = gamma
        self.target = target.to(torch.uint8) if target.dtype == torch.bool else target
        self._pairs = two_classes(input)
        self._geometry = geometry
        self._ignore_index = ignore_index

    def cross_entropy(self, pos_weight: Tensor | None) -> Tensor:
        """The loss of each pixel, (N, Q, H, W); ``pos_weight`` (Q,) or () of a target of one."""
        target = self.target
        weight = None if pos_weight is None else pos_weight.view(-1, 1, 1)
        if not target.is_floating_point():
            loss = self._losses(target.flatten(0, 1))
            return loss if weight is None else torch.where(target == 1, weight * loss, loss)
        self._check_probabilities()
        ones, zeros = (self._losses(every_pixel(label, target)) for label in (1, 0))
        t = target.to(ones.dtype)
        return (t if weight is None else t * weight) * ones + (1 - t) * zeros

    def focal(self, alpha: float | None) -> Tensor:
        """The same of the focal loss, of labels."""
        loss: Tensor = Focused.apply(self._losses(self.target.flatten(0, 1)), self._gamma)
        if alpha is None:
            return loss
        return torch.where(self.target == 1, alpha * loss, (1 - alpha) * loss)

    def _losses(self, labels: Tensor) -> Tensor:
        loss = ops.cross_entropy(
            *(self._pairs, labels, self._geometry),
            ignore_index=self._ignore_index,
            reduction="none",
        )
        return loss.view(self.target.shape)

    def _check_probabilities(self) -> None:
        """On the CPU: elsewhere looking would wait for the device."""
        if self.target.is_cpu and self.target.numel():
            inside = (self.target >= 0) & (self.target <= 1)
            if not inside.all():
                place = tuple((~inside).nonzero()[0].tolist())
                raise ValueError(
                    f"target must be in [0, 1], got {self.target[place].item():g} at {place}"
                )
