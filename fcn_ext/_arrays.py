"""NumPy arrays as they come: masked ones, either byte order, any alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def data_and_mask(values: Any) -> tuple[Array, Array | None]:
    """An array, or a list of them, as an ordinary array, and its mask if any of it is masked."""
    if isinstance(values, (list, tuple)):
        values = np.ma.asarray(values)  # what `np.asarray` makes of masked arrays loses the masks
    mask = np.ma.getmask(values)
    return np.asarray(values), mask if mask is not np.ma.nomask and mask.any() else None


def whole(values: Any, name: str, remedy: str) -> Array:
    """An array of which nothing is masked."""
    data, mask = data_and_mask(values)
    if mask is not None:
        raise ValueError(
            f"{name} must not be masked, got {int(mask.sum())} masked elements; {remedy}"
        )
    return data


def readable(values: Array) -> Array:
    """In this machine's byte order and at addresses that it can read elements from."""
    if not values.dtype.isnative:
        return values.astype(values.dtype.newbyteorder("="))
    return values if values.flags.aligned else values.copy()
