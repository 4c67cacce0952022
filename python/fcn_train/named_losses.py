"""The losses that ``--loss`` names, from the coarse scores of a head."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import losses
from fcn_ext.geometry import Resize
from fcn_train.by_name import by_name
from fcn_train.data import IGNORE_INDEX
from fcn_train.errors import UsageError
from fcn_train.heads import Net, by_head, head_list, in_order
from fcn_train.loss import HeadLosses, divided, pixel_loss, sampled_targets
from fcn_train.optim_options import OptimOptions
from fcn_train.options import CROSS_ENTROPY, TrainOptions
from fcn_train.processes import ALONE, Processes
from fcn_train.share import Part

# A function of scores, target, geometry, class weights or None, ``ignore_index`` and ``group``: the
# mean loss of a batch whose parts the processes of the group hold; zero where all is void.
Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "dice": lambda s, t, g, w, **more: losses.dice_loss(s, t, g, class_weight=w, **more),
    "dice+cross-entropy": lambda s, t, g, w, **more: losses.dice_cross_entropy_loss(
        s, t, g, weight=w, **more
    ),
    "jaccard": lambda s, t, g, w, **more: losses.jaccard_loss(s, t, g, class_weight=w, **more),
    "tversky": lambda s, t, g, w, **more: losses.tversky_loss(
        s, t, g, alpha=0.3, beta=0.7, class_weight=w, **more
    ),
    "focal": lambda s, t, g, w, **more: losses.focal_loss(s, t, g, gamma=2.0, alpha=w, **more),
    "ohem": lambda s, t, g, w, **more: losses.ohem_cross_entropy(
        s, t, g, threshold=0.7, min_kept=1 / 16, weight=w, **more
    ),
    "top-k": lambda s, t, g, w, **more: losses.ohem_cross_entropy(
        s, t, g, threshold=None, min_kept=0.1, weight=w, **more
    ),
}
NAMES = (CROSS_ENTROPY, *LOSSES)
VOID: dict[str, Any] = {"ignore_index": IGNORE_INDEX}


def chosen_losses(choice: str, label_sets: Sequence[str], optim: OptimOptions) -> list[str]:
    """Read ``--loss``: the name of the loss of each head.

    Raises:
        UsageError: it is neither one name nor one for each set of labels, or contradicts another
            option.
    """
    several = len(label_sets) > 1
    choices: Mapping[str, str] | None = dict.fromkeys(label_sets, choice)
    if several and choice not in NAMES:
        choices = by_name(choice)
    if (
        choices is None
        or choices.keys() != set(label_sets)
        or not all(name in NAMES for name in choices.values())
    ):
        of_each = ""
        if several:
            example = ",".join(f"{name}={CROSS_ENTROPY}" for name in label_sets)
            of_each = f", or one of these for each set of labels, such as {example}"
        raise UsageError(f"--loss must be one of {', '.join(NAMES)}{of_each}, got {choice!r}")
    chosen = [choices[name] for name in label_sets]
    if optim.loss != "mean" and set(chosen) != {CROSS_ENTROPY}:
        raise UsageError(f"--optim.loss sum is of the cross-entropy alone, got --loss {choice}")
    return chosen


def chosen_loss(
    options: TrainOptions, label_sets: Sequence[str], here: Processes = ALONE
) -> Callable[..., Tensor]:
    """The loss that ``options`` choose for a network; raises as :func:`chosen_losses`."""
    names = chosen_losses(options.loss, label_sets, options.optim)
    if set(names) == {CROSS_ENTROPY}:
        return pixel_loss
    return functools.partial(named_loss, names=names, here=here)


def named_loss(
    model: Net,
    images: Tensor,
    target: Any,
    *,
    names: Sequence[str],
    reduction: str = "mean",
    weight: Any = None,
    logits: str = "coarse",
    cells: float = 1.0,
    shares: Any = None,
    heads: HeadLosses | None = None,
    part: Part | None = None,
    here: Processes = ALONE,
) -> Tensor:
    """The sum of the losses of all heads, named by ``names``, each times its ``loss_weight``. Other
    arguments are those of :func:`fcn_train.loss.pixel_loss` with ``reduction`` "mean".

    For a ``part`` of a batch, the result is that part's share of the loss of the whole batch. All
    losses but the cross-entropy need sums or ranks over the parts of all processes ``here``; so
    each process must have a part of the same batch, even one without images, and their shares are
    equal.
    """
    target = sampled_targets(model, target, cells, shares, part)
    full = logits == "full"
    made = in_order(model(images) if full else model.scores(images))
    weights = [None] * len(names) if weight is None else in_order(weight)
    parts = []
    for which, (name, scores, labels, head, of_classes) in enumerate(
        zip(names, made, in_order(target), head_list(model), weights, strict=True)
    ):
        given = (scores, labels, Resize() if full else head.geometry)
        if name == CROSS_ENTROPY:
            total = losses.cross_entropy(*given, weight=of_classes, reduction="sum", **VOID)
            parts.append(divided(total, which, labels, reduction, of_classes, part))
        else:
            group = (here.group or True) if here.several else None
            parts.append(LOSSES[name](*given, of_classes, group=group, **VOID) / here.size)
    if heads is not None:
        heads.add(by_head(model, parts))
    if len(parts) == 1:
        return parts[0]
    weighted = [head.loss_weight * part for head, part in zip(head_list(model), parts, strict=True)]
    return torch.stack(weighted).sum()
