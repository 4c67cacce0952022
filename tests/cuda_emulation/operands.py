"""Tensors for kernels: their types, their layouts, and memory that shows mistakes.

Inputs lie in memory full of NaN, and results between guards, so that accesses outside them and
missing results show.
"""

from __future__ import annotations

import torch
from torch import Tensor

# In the order of the numbers that entry points take for them.
SCORES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LABELS = [torch.uint8, torch.int16, torch.int32, torch.int64]
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
NAN, INF = float("nan"), float("inf")

# Elements on either side of a result, and their value.
GUARD = 64
OUTSIDE = 77


def accumulated(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which scores of this dtype are summed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def among_nans(values: Tensor, shift: int = 0) -> Tensor:
    """The same values and strides in a larger memory of NaN, `shift` elements past alignment."""
    if values.numel() == 0:
        return values
    reach = 1 + sum((n - 1) * s for n, s in zip(values.shape, values.stride(), strict=True))
    memory = torch.full((reach + 2 * GUARD + shift,), NAN, dtype=values.dtype)
    placed = memory.as_strided(values.shape, values.stride(), GUARD + shift)
    alone = tuple(slice(None) if s else slice(1) for s in values.stride())
    placed[alone] = values[alone]
    return placed


def guarded(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> tuple[Tensor, Tensor]:
    """A result full of NaN, or of label 99, and the memory around it, for check_guards()."""
    like = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=layout)
    memory = torch.full((like.numel() + 2 * GUARD + shift,), OUTSIDE, dtype=dtype)
    result = memory.as_strided(shape, like.stride(), GUARD + shift)
    return result.fill_(NAN if dtype.is_floating_point else 99), memory


def check_guards(result: Tensor, memory: Tensor) -> None:
    begin = result.storage_offset()
    outside = torch.cat([memory[:begin], memory[begin + result.numel() :]])
    assert (outside == OUTSIDE).all(), "the kernel wrote outside its result"


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same scores (n, c, h, w) or labels (n, h, w) under other strides."""
    n, *middle, w = range(values.dim())
    orders = {
        "contiguous": [n, *middle, w],
        "channels last": [n, *middle[1:], w, middle[0]],
        "transposed": [n, *middle[:-1], w, middle[-1]],
        "batch last": [*middle, w, n],
        "reversed": [w, *middle[::-1], n],
    }
    if layout in orders:
        return _stored(values, orders[layout])
    if layout == "every other column":
        return values.repeat_interleave(2, -1)[..., ::2]
    if layout == "window":
        return _window(values)
    assert layout == "channels last window"
    return _window(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _stored(values: Tensor, order: list[int]) -> Tensor:
    """The values with these axes in memory, outermost first."""
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return values.permute(order).contiguous().permute(inverse)


def _window(values: Tensor) -> Tensor:
    """A window in which neither rows nor planes are contiguous."""
    *planes, h, w = values.shape
    outside = NAN if values.is_floating_point() else 99
    whole = values.new_full((*(n + 1 for n in planes), h + 5, w + 7), outside)
    inside = (*(slice(n) for n in planes), slice(2, 2 + h), slice(3, 3 + w))
    return whole[inside].copy_(values)


def blocks(
    generator: torch.Generator, shape: tuple[int, int, int], classes: int, size: int
) -> Tensor:
    """Labels in [0, classes), constant in every square of `size` x `size` pixels."""
    n, h, w = shape
    coarse = torch.randint(0, classes, (n, h // size + 1, w // size + 1), generator=generator)
    return coarse.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :h, :w]


def labels_among(
    generator: torch.Generator, shape: tuple[int, int, int], values: list[int], dtype: torch.dtype
) -> Tensor:
    """Labels drawn from `values` and the limits of the type, as far as the type holds them."""
    limits = torch.iinfo(dtype)
    values = [*values, limits.min, limits.max]
    kept = torch.tensor([v for v in values if limits.min <= v <= limits.max])
    return kept[torch.randint(0, len(kept), shape, generator=generator)].to(dtype)
