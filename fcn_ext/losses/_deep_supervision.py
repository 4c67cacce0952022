"""deep_supervision: one loss for several heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
    """The weighted sum of the losses of several heads that share one target.

    Auxiliary heads have the weight 0.4 in mmsegmentation, transformers and ultralytics, and 0.5 in
    torchvision. Scores may be of any size: all are taken to the size of the target.

        >>> import torch
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> main, auxiliary = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 8, 8)
        >>> total = deep_supervision([(main, 1.0), (auxiliary, 0.4)], target)
        >>> round(total.item(), 4)                                 # 1.4 ln 4
        1.9408

    Args:
        heads: (scores, weight) of each, or (scores, weight, geometry) for a head with a geometry of
            its own. A weight is a finite number, or a real tensor ().
        target: the target of ``loss``.
        geometry: how scores reach the size of the target.
        loss: a function of (scores, target, geometry), such as those of this module, that returns a
            tensor, without an accuracy beside it.
        options: further arguments of ``loss``.

    Returns:
        The weighted sum of what ``loss`` returns for each head.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: there are no heads, an entry is neither a pair nor a triple, or a weight is not
            finite, or a tensor of another shape.
    """
    if not isinstance(heads, Sequence):
        raise TypeError(f"heads must be a list of (scores, weight), got {type(heads).__name__}")
    is_loss(loss, "a function of (scores, target, geometry)")
    if isinstance(loss, nn.Module) and hasattr(loss, "geometry"):
        raise TypeError(
            "loss must be a function of (scores, target, geometry), such as those of "
            f"fcn_ext.losses; nn.DeepSupervision takes modules, got {_common.shown(loss)}"
        )
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
        weight = head_weight(weight, f"the weight of heads[{place}]")
        part = loss(scores, target, *(own or [geometry]), **options)
        if not isinstance(part, Tensor):
            raise TypeError(f"loss must return a tensor, got {_text(part)}")
        total = weight * part if total is None else total + weight * part
    assert total is not None
    return total


def is_loss(loss: Any, what: str) -> Any:
    """``loss`` if it is callable and not a class, such as a module class that was not
    instantiated."""
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss must be {what}, got {_common.shown(loss)}")
    return loss


def head_weight(weight: Any, name: str) -> Tensor | float:
    """``weight`` if it is a finite number or a real tensor ()."""
    if not isinstance(weight, Tensor):
        return _common.finite(weight, name)
    if weight.dtype == torch.bool:
        raise TypeError(f"{name} must be a number, got {_common.shown(weight)}")
    if weight.dim() != 0:
        raise ValueError(
            f"{name} must be a number or a tensor (), got one of shape {tuple(weight.shape)}"
        )
    if weight.is_complex():
        raise ValueError(f"{name} must be real, got {weight.dtype}")
    return weight


def _text(entry: Any) -> str:
    if isinstance(entry, tuple | list):
        return "1 value" if len(entry) == 1 else f"{len(entry)} values"
    return type(entry).__name__
