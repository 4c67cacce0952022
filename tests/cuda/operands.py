"""Tensors of the tests on a GPU: their types, their layouts, and room for the largest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

LABELS = [torch.uint8, torch.int16, torch.int32, torch.int64]


def channels_last(map: Tensor) -> Tensor:
    return map.contiguous(memory_format=torch.channels_last)


def window(map: Tensor) -> Tensor:
    """A window that no row of is aligned."""
    n, c, h, w = map.shape
    larger = map.new_zeros((n, c, h + 3, w + 5))
    return larger[:, :, 1 : 1 + h, 3 : 3 + w].copy_(map)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [Tensor.contiguous, channels_last, window]


def blocks(shape: tuple[int, ...], high: int, size: int = 23) -> Tensor:
    """Piecewise constant labels."""
    n, h, w = shape
    coarse = torch.randint(0, high, (n, h // size + 1, w // size + 1))
    return coarse.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :h, :w].contiguous()


def needs_memory(gigabytes: float) -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < gigabytes * 2**30:
        pytest.skip(f"needs {gigabytes} GiB of free GPU memory, has {free / 2**30:.1f}")
