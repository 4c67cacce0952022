"""What a call of ``F.interpolate`` asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext._rules import LARGEST_SIZE

__all__ = ["dtype_under_autocast", "resized_size"]


def resized_size(
    input: Tensor, size: Any, scale_factor: Any, align_corners: bool, recomputed: Any
) -> tuple[int, int] | None:
    """The size of the result of ``F.interpolate``, or None if there is no such size, or if the size
    alone does not say where its pixels lie."""
    before = tuple(input.shape[2:])
    if size is not None:
        if scale_factor is not None or recomputed:
            return None
        after = (size, size) if isinstance(size, int) else tuple(size)
    else:
        scales = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * 2
        if len(scales) != 2 or any(type(scale) not in (int, float) for scale in scales):
            return None
        if not all(0 < scale < LARGEST_SIZE for scale in scales):
            return None
        exact = [nodes * scale for nodes, scale in zip(before, scales, strict=True)]
        after = tuple(int(pixels) for pixels in exact)
        if not (recomputed or align_corners):
            # torch computes the steps between pixels from the factor, not from the two sizes.
            for pixels, rounded in zip(exact, after, strict=True):
                if abs(pixels - rounded) > 1e-15 * rounded:
                    return None
    # Sizes of images are often NumPy's integers.
    if len(after) != 2 or any(
        isinstance(pixels, bool) or not isinstance(pixels, (int, np.integer)) for pixels in after
    ):
        return None
    after = (int(after[0]), int(after[1]))
    return after if all(1 <= pixels <= LARGEST_SIZE for pixels in after) else None


def dtype_under_autocast(input: Tensor) -> torch.dtype:
    """The dtype of ``F.interpolate``'s result, which autocast makes float32 on some devices."""
    if not torch.is_autocast_enabled(input.device.type):
        return input.dtype
    key = (input.device.type, input.dtype, torch.get_autocast_dtype(input.device.type))
    if key not in _dtypes:
        pixel = torch.zeros(1, 1, 1, 1, dtype=input.dtype, device=input.device)
        _dtypes[key] = F.interpolate(pixel, size=(1, 1), mode="bilinear").dtype
    return _dtypes[key]


_dtypes: dict[Any, torch.dtype] = {}
