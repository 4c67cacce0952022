"""deep_supervision: one loss of several heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses._cross_entropy import cross_entropy
from fcn_ext.ops import _common


def deep_supervision(
    heads: Sequence[tuple[Any, ...]],
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    loss: Callable[..., Tensor] = cross_entropy,
    **options: Any,
) -> Tensor:
    """The weighted sum of a loss of several heads that share one target.

    Auxiliary heads weigh 0.4 in mmsegmentation, transformers and ultralytics, 0.5 in torchvision.
    The scores of each may be of any size: all are taken to that of the target.

        >>> import torch
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> main, auxiliary = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 8, 8)
        >>> total = deep_supervision([(main, 1.0), (auxiliary, 0.4)], target)
        >>> round(total.item(), 4)                                 # 1.4 ln 4
        1.9408

    Args:
        heads: (scores, weight) of each, or (scores, weight, geometry) where one reaches the
            target's size in another way than the others. A weight is a number, or a tensor ().
        target: what ``loss`` compares with.
        geometry: how scores reach the size of the target.
        loss: a function of (scores, target, geometry), such as those of this module.
        options: further arguments of ``loss``.

    Returns:
        What ``loss`` returns, times its weight, added up.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: there are no heads, or an entry is neither a pair nor a triple.
    """
    if not isinstance(heads, Sequence):
        raise TypeError(f"heads must be a list of (scores, weight), got {type(heads).__name__}")
    if not heads:
        raise ValueError("heads must have at least one (scores, weight), got none")
    total: Tensor | None = None
    for place, entry in enumerate(heads):
        if not isinstance(entry, tuple | list) or len(entry) not in (2, 3):
            raise ValueError(
                f"heads[{place}] must be (scores, weight) or (scores, weight, geometry), "
                f"got {_text(entry)}"
            )
        scores, weight, *own = entry
        if not isinstance(weight, Tensor):
            weight = _common.number(weight, f"the weight of heads[{place}]")
        part = weight * loss(scores, target, *(own or [geometry]), **options)
        total = part if total is None else total + part
    assert total is not None
    return total


def _text(entry: Any) -> str:
    if isinstance(entry, tuple | list):
        return f"{len(entry)} values"
    return type(entry).__name__
