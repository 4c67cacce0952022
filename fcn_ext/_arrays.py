"""Reads NumPy arrays of any kind: masked, in either byte order, with any alignment and strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


def data_and_mask(values: Any, name: str) -> tuple[Array, Array | None]:
    """``values``, an array or a list of arrays, as an ordinary array, and its mask if any element
    is masked.

    Raises:
        TypeError: what NumPy cannot make an array of; the message calls it by ``name``.
        ValueError: it is a list of lists of different lengths.
    """
    if isinstance(values, (list, tuple)):
        try:  # what `np.asarray` makes of masked arrays loses the masks
            values = np.ma.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} must be an array, got a list that is none: {error}") from None
    mask = np.ma.getmask(values)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # of a tensor that is sparse, say
        kind = type(values).__name__
        raise TypeError(f"{name} must be an array, got a {kind}: {error}") from None
    return array, mask if mask is not np.ma.nomask and mask.any() else None


def whole(values: Any, name: str, remedy: str) -> Array:
    """``values`` as an array, or ValueError if any element is masked."""
    data, mask = data_and_mask(values, name)
    if mask is not None:
        masked = int(mask.sum())
        raise ValueError(
            f"{name} must not be masked, got {masked} masked "
            f"{'element' if masked == 1 else 'elements'}; {remedy}"
        )
    return data


def readable(values: Array) -> Array:
    """``values`` in this machine's byte order and at aligned addresses."""
    if not values.dtype.isnative:
        return values.astype(values.dtype.newbyteorder("="))
    return values if values.flags.aligned else values.copy()


def tensor_of(values: Array) -> Tensor:
    """``values`` as a tensor that shares memory if possible; unsigned integers that torch hardly
    supports are widened, and long doubles are rounded to doubles."""
    array = readable(values)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    # torch cannot view read-only memory or axes with negative strides.
    is_shared = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if is_shared else array.copy())
