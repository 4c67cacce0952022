"""The training loss: cross-entropy over the valid pixels.

``--logits coarse`` computes it straight from the network's coarse scores. ``--logits full`` writes
the logits of every pixel first, as is done without the operators: a baseline with the same numbers
up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.models import FCN, Head, MultiHeadFCN
from fcn_train.data import IGNORE_INDEX
from fcn_train.heads import Net
from fcn_train.options import Logits
from fcn_train.processes import Processes
from fcn_train.sampling import sampled
from fcn_train.share import Part


def pixel_loss(
    model: Net,
    images: Tensor,
    target: Any,
    reduction: str = "mean",
    weight: Any = None,
    logits: Logits = "coarse",
    cells: float = 1.0,
    shares: Any = None,
    heads: HeadLosses | None = None,
    part: Part | None = None,
) -> Tensor:
    """Cross-entropy of ``model`` on ``images`` against ``target`` (N, H, W) uint8, 255 = void.

    For a network with several heads, ``target``, ``weight`` and ``shares`` are given by head, and
    the loss is the sum of the heads' losses, each times its ``loss_weight`` (Long et al., section
    5, "SIFT Flow").

    ``mean`` divides by the number of valid pixels of the batch (by the sum of their class weights
    where given; Caffe's ``normalize: true``) and is 0 for a batch without any. ``sum`` divides by
    N alone (Caffe's ``normalize: false``), so it is about ``H * W`` times the mean. A share
    ``cells`` of the cells of the scores counts, and a share ``shares[c]`` of the pixels of class c,
    as :func:`fcn_train.sampling.sampled` draws them. ``heads`` records the loss of each head.

    For a ``part`` of a batch, the result is that part's share of the loss of the whole batch.
    """
    target = sampled_targets(model, target, cells, shares, part)
    if not isinstance(model, MultiHeadFCN):
        total = summed_loss(model, images, target, weight, logits)
        return divided(total, 0, target, reduction, weight, part)
    weights = dict.fromkeys(model.heads) if weight is None else weight
    totals = summed_losses(model, images, target, weights, logits)
    losses = {
        name: divided(totals[name], which, target[name], reduction, weights[name], part)
        for which, name in enumerate(model.heads)
    }
    if heads is not None:
        heads.add(losses)
    weighted = [cast(Head, head).loss_weight * losses[name] for name, head in model.heads.items()]
    return torch.stack(weighted).sum()


class HeadLosses:
    """The losses of several heads since they were last taken."""

    def __init__(self) -> None:
        self._noted: list[Tensor] = []

    def add(self, losses: Any) -> None:
        """Record the losses by head of a batch or a part of one; a single loss is ignored."""
        if isinstance(losses, Mapping):
            self._noted.append(torch.stack([loss.detach() for loss in losses.values()]))

    def taken(self, heads: int, batches: int, here: Processes) -> list[float]:
        """Their means over ``batches`` and all processes ``here``, after which they are dropped;
        empty for a network with one head."""
        noted, self._noted = self._noted, []
        if heads == 1:
            return []
        total = torch.stack(noted).sum(0).cpu() if noted else torch.zeros(heads)
        means: list[float] = (here.add(total) / batches).tolist()
        return means


def sampled_targets(
    model: Net, target: Any, cells: float, shares: Any, part: Part | None = None
) -> Any:
    """``target``, or those of several heads, with void where pixels do not count."""
    if not isinstance(model, MultiHeadFCN):
        return sampled(target, model, cells, shares, part)
    kept = dict.fromkeys(model.heads) if shares is None else shares
    return {
        name: sampled(target[name], cast(Head, head), cells, kept[name], part)
        for name, head in model.heads.items()
    }


def divisor_of_part(
    model: Net, target: Any, reduction: str, weight: Any, cells: float, shares: Any, part: Part
) -> Tensor:
    """A ``part``'s share of what the loss of each head is divided by: (heads,) float64, to be added
    up over the parts of the batch. ``target`` is on the CPU."""
    if reduction == "sum":
        heads = len(model.heads) if isinstance(model, MultiHeadFCN) else 1
        return torch.full((heads,), len(part), dtype=torch.float64)
    target = sampled_targets(model, target, cells, shares, part)
    if not isinstance(model, MultiHeadFCN):
        pairs = [(target, weight)]
    else:
        weights = dict.fromkeys(model.heads) if weight is None else weight
        pairs = [(target[name], weights[name]) for name in model.heads]
    sums = [weight_of(labels, None if one is None else one.cpu()) for labels, one in pairs]
    return torch.stack([each.double() for each in sums])


def weight_of(target: Tensor, weight: Tensor | None) -> Tensor:
    """The number of valid pixels, or the sum of their class weights."""
    valid = target != IGNORE_INDEX
    return valid.sum() if weight is None else weight[target[valid].long()].sum()


def reduced(total: Tensor, target: Tensor, reduction: str, weight: Tensor | None) -> Tensor:
    """``total``, a sum over the valid pixels of ``target``, reduced as in ``pixel_loss``."""
    if reduction == "sum":
        return total / len(target)
    divisor = weight_of(target, weight)
    if weight is None:
        return total / divisor.clamp_min(1)
    return total / torch.where(divisor > 0, divisor, 1.0)


def divided(
    total: Tensor,
    which: int,
    target: Tensor,
    reduction: str,
    weight: Tensor | None,
    part: Part | None,
) -> Tensor:
    """``total``, that of head number ``which``, divided by the whole batch's divisor if ``part``
    has it, else by that of ``target``."""
    if part is None or part.divisors is None:
        return reduced(total, target, reduction, weight)
    return total / part.divisors[which]


def summed_loss(
    model: FCN, images: Tensor, target: Tensor, weight: Tensor | None, logits: Logits
) -> Tensor:
    """The sum of the cross-entropy over the valid pixels of ``target`` (N, H, W) uint8."""
    if logits == "coarse":
        return model.loss(images, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return F.cross_entropy(
        model(images), target.long(), weight, ignore_index=IGNORE_INDEX, reduction="sum"
    )


def summed_losses(
    model: MultiHeadFCN,
    images: Tensor,
    target: Mapping[str, Tensor],
    weight: Mapping[str, Tensor | None],
    logits: Logits,
) -> dict[str, Tensor]:
    """``summed_loss`` of each head."""
    if logits == "coarse":
        given = {name: values for name, values in weight.items() if values is not None}
        return model.losses(images, target, weight=given, reduction="sum")
    return {
        name: F.cross_entropy(
            values,
            target[name].long(),
            weight[name],
            ignore_index=IGNORE_INDEX,
            reduction="sum",
        )
        for name, values in model(images).items()
    }
