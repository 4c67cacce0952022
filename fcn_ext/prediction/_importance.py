"""How much the pixels of a window count in an average: all alike, or less towards its border."""

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
    """The weights of the rows or columns of a window, float64 (side,), all > 0; None where they
    are one. A pixel's weight is the product of its row's and its column's.

    "gaussian" is nnU-Net's (``compute_gaussian``): with the side ``n``, of standard deviation
    ``n / 8`` around pixel ``n // 2``. "linear" is the distance to the nearest border, from the
    pixel's center.
    """
    if name == "constant":
        return None
    pixel = np.arange(side, dtype=np.float64)
    if name == "gaussian":
        weights = np.exp(-0.5 * ((pixel - side // 2) / (SIGMA * side)) ** 2)
    else:
        weights = np.minimum(pixel + 0.5, side - 0.5 - pixel)
    weights.flags.writeable = False  # each caller is given the same
    return weights
