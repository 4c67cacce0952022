"""What the operators' Python sides share: argument normalising, layouts, vmap."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# In C++ the same limit keeps products of two sizes within 64 bits (csrc/common/check.h).
LARGEST_SIZE = 2**30


def integer(value: Any, name: str) -> int:
    """``value`` as an int (or a traced one), or TypeError naming the argument."""
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as (y, x): one integer stands for both."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (y, x), got {value!r}")
        return integer(value[0], name), integer(value[1], name)
    return integer(value, name), integer(value, name)


def is_map(value: Any, name: str) -> Tensor:
    """``value`` if it is a tensor of shape (N, C, H, W)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {tuple(value.shape)}")
    return value


def is_channels_last(map: Tensor) -> bool:
    """The rule of csrc/bilinear/bilinear_tensors.h, for the shapes that tracing sees."""
    return bool(map.shape[1] > 1 and map.stride(1) == 1 and map.stride(3) >= map.shape[1])


def empty_map(like: Tensor, height: int, width: int) -> Tensor:
    """What the operators return for ``like``: its dtype and layout at another size."""
    return torch.empty(
        (like.shape[0], like.shape[1], height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format,
    )


def fold_batch(map: Tensor, dim: int | None, size: int) -> Tensor:
    """A vmapped (N, C, H, W) map as one of size * N images."""
    map = map.unsqueeze(0).expand(size, *map.shape) if dim is None else map.movedim(dim, 0)
    return map.reshape(-1, *map.shape[2:])


def unfold_batch(map: Tensor, size: int) -> Tensor:
    return map.reshape(size, -1, *map.shape[1:])


def vmap_over_batch(op: Any, num_maps: int) -> Any:
    """A vmap rule for ``op``, whose first ``num_maps`` arguments are maps and the rest numbers."""

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        maps = [
            fold_batch(map, dim, info.batch_size)
            for map, dim in zip(args[:num_maps], in_dims[:num_maps], strict=True)
        ]
        return unfold_batch(op(*maps, *args[num_maps:]), info.batch_size), 0

    return rule
