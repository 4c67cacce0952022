"""Shapes and strides of tensors, as torch gives them: meta tensors, the twins of deferred ones."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["dense", "is_channels_last", "laid_out", "resized_twin"]


def is_channels_last(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether torch resizes a map of these strides to a channels_last one: the strides grow in the
    order of channels, columns, rows and images. If sizes of 1 leave both open, it does not."""
    least = 0
    for axis in (1, 3, 2, 0):
        if stride[axis] < least or stride[1] == 0 or (axis == 0 and least == stride[1]):
            return False
        least = stride[axis] * shape[axis]
    return True


@lru_cache(maxsize=256)
def resized_twin(
    shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, size: tuple[int, int]
) -> Tensor:
    """The twin that torch gives a map resized to ``size``."""
    last = is_channels_last(shape, stride)
    return torch.empty(
        (*shape[:2], *size),
        dtype=dtype,
        device="meta",
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def dense(twin: Tensor) -> Tensor:
    """The twin that torch gives what it computes from such a tensor, element by element: no offset,
    and no gaps as between some classes of a map, or around a crop."""
    # A dimension of size 1 may have any stride.
    if twin.storage_offset() == 0 and 1 not in twin.shape:
        last = twin.dim() == 4 and twin.is_contiguous(memory_format=torch.channels_last)
        if last or twin.is_contiguous():
            return twin
    return _dense(tuple(twin.shape), twin.stride(), twin.dtype)


@lru_cache(maxsize=256)
def _dense(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_like(torch.empty_strided(shape, stride, dtype=dtype, device="meta"))


def laid_out(tensor: Tensor, twin: Tensor) -> Tensor:
    """``tensor`` with the strides of its twin."""
    if tensor.stride() == twin.stride():
        return tensor
    return tensor.new_empty_strided(twin.shape, twin.stride()).copy_(tensor)
