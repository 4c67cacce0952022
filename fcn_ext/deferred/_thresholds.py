"""Masks straight from coarse scores: logits, sigmoids, or the probability of one of two classes,
compared with a number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._layout import CLASSES
from fcn_ext.deferred._memory import step_of
from fcn_ext.deferred._predictions import coarse_of
from fcn_ext.deferred._recipe import Logits
from fcn_ext.deferred._strides import dense, laid_out
from fcn_ext.deferred._tensor import DeferredLogits, handles
from fcn_ext.ops import _common
from fcn_ext.prediction._masks import above, logit

aten = torch.ops.aten


@handles(aten.sigmoid.default)
def _sigmoid(func: Any, self: Any) -> Any:
    found = coarse_of(self)
    if found is None or found[0].kind != "logits":
        return NotImplemented
    recipe = found[0]
    twin = dense(recipe.twin)
    carried = recipe.step(step_of(func, (), {}), twin, recipe.layout, kind="sigmoid")
    return NotImplemented if carried is None else DeferredLogits(carried)


# For each comparison: whether it is true below the number, and whether the result is negated.
_COMPARISONS = {
    aten.gt.Scalar: (False, False),
    aten.lt.Scalar: (True, False),
    aten.ge.Scalar: (True, True),
    aten.le.Scalar: (False, True),
}


@handles(*_COMPARISONS)
def _compared(func: Any, self: Any, number: Any) -> Any:
    found = coarse_of(self, with_parts=True)
    if found is None:
        return NotImplemented
    recipe, snapshot = found
    layout, classes = recipe.layout, _classes_compared(recipe)
    limit = _limit(number, recipe.kind != "logits")
    if classes is None or limit is None or not snapshot.affords(layout):
        return NotImplemented
    below, negated = _COMPARISONS[func]
    found_masks = []
    for _, tile in snapshot.part(layout.of(CLASSES, classes)).tiles():
        scores = tile.scores
        if recipe.kind == "softmax":
            scores = _odds(scores, classes.index(layout.ranges[CLASSES][0]))
        scores, least = (-scores, -limit) if below else (scores, limit)
        found_masks.append(above(scores, tile.size, tile.geometry, least))
    masks = found_masks[0] if len(found_masks) == 1 else torch.cat(found_masks, 2)
    if negated:
        masks.logical_not_()
    result: Tensor = layout.from_full_map(masks, recipe.twin.shape)
    return laid_out(result, dense(recipe.twin))


def _classes_compared(recipe: Logits) -> range | None:
    """The classes whose scores say how logits compare with a number; None if these do not."""
    if recipe.kind in ("logits", "sigmoid"):
        return recipe.layout.ranges[CLASSES]
    known = recipe.memory.layout.ranges[CLASSES]
    is_one_of_two = recipe.kind == "softmax" and len(known) == 2 and recipe.is_part_of_softmax
    return known if is_one_of_two else None


def _odds(scores: Tensor, place: int) -> Tensor:
    """The scores of which the probability of one of two classes is the sigmoid."""
    scores = scores.to(_common.accumulate_dtype(scores))
    return scores[:, place : place + 1] - scores[:, 1 - place : 2 - place]


@handles(aten.round.default)
def _round(func: Any, self: Any) -> Any:
    """Of sigmoids: one where they are above a half, which itself goes to the even zero."""
    if not isinstance(self, DeferredLogits) or self.recipe.kind != "sigmoid":
        return NotImplemented
    masks = _compared(aten.gt.Scalar, self, 0.5)
    return masks if masks is NotImplemented else masks.to(self.recipe.twin.dtype)


def _limit(number: Any, of_sigmoid: bool) -> float | None:
    """The logit to compare with; None if no finite one is equivalent."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    if not of_sigmoid:
        return float(number) if abs(number) < torch.finfo(torch.float16).max else None
    return logit(number) if 0 < number < 1 else None
