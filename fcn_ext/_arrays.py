"""NumPy arrays as they come: masked ones, either byte order, any alignment and strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


def data_and_mask(values: Any, name: str) -> tuple[Array, Array | None]:
    """An array, or a list of them, as an ordinary array, and its mask if any of it is masked.

    Raises:
        ValueError: a list of lists of several lengths; the message calls it by ``name``.
    """
    if isinstance(values, (list, tuple)):
        try:  # what `np.asarray` makes of masked arrays loses the masks
            values = np.ma.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} must be an array, got a list of none: {error}") from None
    mask = np.ma.getmask(values)
    return np.asarray(values), mask if mask is not np.ma.nomask and mask.any() else None


def whole(values: Any, name: str, remedy: str) -> Array:
    """An array of which nothing is masked."""
    data, mask = data_and_mask(values, name)
    if mask is not None:
        masked = int(mask.sum())
        raise ValueError(
            f"{name} must not be masked, got {masked} masked "
            f"{'element' if masked == 1 else 'elements'}; {remedy}"
        )
    return data


def readable(values: Array) -> Array:
    """In this machine's byte order and at addresses that it can read elements from."""
    if not values.dtype.isnative:
        return values.astype(values.dtype.newbyteorder("="))
    return values if values.flags.aligned else values.copy()


def tensor_of(values: Array) -> Tensor:
    """As a tensor, which shares memory if it can; unsigned integers that torch can do little with
    are widened."""
    array = readable(values)
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    # What torch has no view of: read-only memory, and axes that run backwards.
    is_shared = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if is_shared else array.copy())
