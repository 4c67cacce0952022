"""Reads the values of state dicts of other programs as tensors, or raises an exception that names
one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._arrays import tensor_of, whole

__all__ = ["check_names", "checked", "value_of"]


def check_names(state_dict: Any) -> None:
    """Raises TypeError unless ``state_dict`` is a dict with string keys."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict must be a dict of tensors by name, got {type(state_dict).__name__}"
        )
    for key in state_dict:
        if not isinstance(key, str):
            raise TypeError(f"state_dict must have strings for keys, got {key!r}")


def value_of(state_dict: Mapping[str, Any], key: str) -> Tensor:
    """The value of ``key`` in ``state_dict``, a tensor or an array of any layout, as a tensor.

    Raises:
        ValueError: it does not hold real numbers; the message names ``key``.
    """
    value = state_dict[key]
    if not isinstance(value, Tensor):
        array = whole(value, key, "fill them, such as by `array.filled(0)`")
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{key} must hold real numbers, got an array of {array.dtype}")
        return tensor_of(array)
    if value.layout is not torch.strided or value.is_nested or value.is_quantized:
        kind = value.dtype if value.is_quantized else value.layout
        raise ValueError(f"{key} must be an ordinary dense tensor, got {kind}")
    if value.is_complex() or value.dtype == torch.bool:
        raise ValueError(f"{key} must hold real numbers, got {value.dtype}")
    if value.is_meta:
        raise ValueError(f"{key} must have values, got a tensor on the meta device")
    return value


def checked(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    """``value``, or ValueError naming its ``key`` unless it has ``shape``."""
    if value.shape != shape:
        raise ValueError(f"{key} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    return value
