"""The weights of a window's pixels in an average: constant, or smaller towards its border."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fcn_ext._arguments import one_of

Importance = Literal["constant", "gaussian", "linear"]
NAMES = ("constant", "gaussian", "linear")
SIGMA = 1 / 8
"""Of the Gaussian, relative to the window's side."""


def check_importance(name: Any) -> None:
    one_of(name, NAMES, "importance")


@lru_cache(maxsize=64)
def along_axis(name: str, side: int) -> np.ndarray | None:
    """The weights of the rows or columns of a window, float64 (side,), all > 0; None if all are
    one. A pixel's weight is that of its row times that of its column.

    "gaussian" is nnU-Net's (``compute_gaussian``): for side ``n``, centered at pixel ``n // 2``
    with standard deviation ``n / 8``. "linear" is the distance to the nearest border, from the
    pixel's center.
    """
    if name == "constant":
        return None
    pixel = np.arange(side, dtype=np.float64)
    if name == "gaussian":
        weights = np.exp(-0.5 * ((pixel - side // 2) / (SIGMA * side)) ** 2)
    else:
        weights = np.minimum(pixel + 0.5, side - 0.5 - pixel)
    weights.flags.writeable = False  # all callers share it
    return weights
