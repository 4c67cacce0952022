"""Labels of tiles, with or without the winner's probability, joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Geometry


def winners(
    scores: Tensor,
    size: tuple[int, int],
    geometry: Geometry,
    dtype: torch.dtype | None,
    with_probability: bool,
) -> tuple[Tensor, ...]:
    """:func:`fcn_ext.ops.argmax` as a tuple of one or two."""
    if with_probability:
        return ops.argmax(scores, size, geometry, dtype=dtype, return_probability=True)
    return (ops.argmax(scores, size, geometry, dtype=dtype),)


def below_each_other(tiles: Iterable[tuple[Tensor, ...]]) -> Any:
    """Joins tiles of labels, or of labels and probabilities, into one map or two."""
    whole = [torch.cat(parts, 1) for parts in zip(*tiles, strict=True)]
    return whole[0] if len(whole) == 1 else tuple(whole)
