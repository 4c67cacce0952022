"""Masks straight from coarse scores: logits, or their sigmoids, compared with a number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._predictions import coarse_of
from fcn_ext.deferred._snapshot import laid_out, step_of
from fcn_ext.deferred._tensor import DeferredLogits, handles
from fcn_ext.geometry import Resize
from fcn_ext.prediction._masks import above, logit

aten = torch.ops.aten


@handles(aten.sigmoid.default)
def _sigmoid(func: Any, self: Any) -> Any:
    found = coarse_of(self)
    if found is None or found[0].kind != "logits":
        return NotImplemented
    recipe = found[0]
    step, twin = step_of(func, (), {}), func(recipe.twin)
    carried = recipe.step(step, twin, recipe.layout, kind="sigmoid")
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
    found = coarse_of(self)
    if found is None or found[0].kind not in ("logits", "sigmoid"):
        return NotImplemented
    recipe, snapshot = found
    limit = _limit(number, recipe.kind == "sigmoid")
    if limit is None or not snapshot.affords(recipe.layout):
        return NotImplemented
    below, negated = _COMPARISONS[func]
    found_masks = []
    for _, tile in snapshot.part(recipe.layout).tiles():
        scores, least = (-tile.scores, -limit) if below else (tile.scores, limit)
        found_masks.append(above(scores, tile.size, Resize(bool(tile.align_corners)), least))
    masks = found_masks[0] if len(found_masks) == 1 else torch.cat(found_masks, 2)
    if negated:
        masks.logical_not_()
    masks = recipe.layout.cropped(masks)
    result: Tensor = recipe.layout.from_full_map(masks, recipe.twin.shape)
    return laid_out(result, func(recipe.twin, number))


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
