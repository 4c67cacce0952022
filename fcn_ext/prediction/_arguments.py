"""What the functions of this package ask of scores, size and geometry, before they begin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fcn_ext import _rules
from fcn_ext.geometry import Deconvolution, Geometry
from fcn_ext.ops import _common


def full_size(
    scores: Any, size: Any, geometry: Any, name: str = "size", *, of_classes: bool = True
) -> tuple[Tensor, tuple[int, int], Geometry]:
    """The three, checked, and the size as (height, width); ``name`` is what gave the size.

    ``of_classes``: the scores are of classes, of which there must be one and may be too many.
    """
    scores = _common.is_map(scores, "scores")
    _rules.check_map(scores, "scores")
    if of_classes:
        _rules.check_argmax_classes(scores, "scores")
    geometry = _common.is_geometry(geometry)
    if size is not None:
        size = _common.pair(size, name)
    elif isinstance(geometry, Deconvolution):
        size = geometry.output_size((scores.shape[2], scores.shape[3]))
    else:
        raise TypeError(f"{name} must be given with a Resize, got None")
    _rules.check_axes(geometry.numbers, scores.shape[2:], size, name)
    return scores, size, geometry
