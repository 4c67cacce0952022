"""The words of lanes as other kinds of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

U32, S32, U64, S64, F32, F64 = np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64


def wide(values: Any) -> Any:
    """Widens 32 bits to 64, with zeros above."""
    return np.asarray(values).astype(U64)


def signed(values: Any) -> Any:
    """Widens 32 bits to a signed number of 64."""
    return np.asarray(values).view(S32).astype(S64)
