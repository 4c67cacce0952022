"""Checks of scores, size and geometry that the functions of this package share."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function

from fcn_ext import _label_rules, _rules
from fcn_ext.geometry import Geometry
from fcn_ext.ops import _common


def full_size(
    scores: Any, size: Any, geometry: Any, name: str = "size", *, of_classes: bool = True
) -> tuple[Tensor, tuple[int, int], Geometry]:
    """Scores, size as (height, width), and geometry, checked; ``name`` is the argument that gave
    the size.

    ``of_classes``: whether channels are classes, of which there must be at least one and not too
    many.
    """
    scores = _common.is_map(scores, "scores")
    _rules.check_map(scores, "scores")
    if of_classes:
        _label_rules.check_argmax_classes(scores, "scores")
    geometry = _common.is_geometry(geometry)
    size = _common.size_of(geometry, scores, name) if size is None else _common.pair(size, name)
    _rules.check_axes(geometry.numbers, scores.shape[2:], size, name)
    return as_coarse(scores, size, geometry)


def as_coarse(
    scores: Tensor, size: tuple[int, int], geometry: Geometry
) -> tuple[Tensor, tuple[int, int], Geometry]:
    """Scores, size and geometry as they are; for deferred logits of that size, the scores behind
    them and their geometry."""
    if not is_dynamo_compiling() and has_torch_function((scores,)):
        found: tuple[Tensor, tuple[int, int], Geometry]
        found = handle_torch_function(as_coarse, (scores,), scores, size, geometry)
        return found
    return scores, size, geometry
