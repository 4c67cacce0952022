"""Reads depth and HHA images, and names the channels that a network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from fcn_train.data.images import decode, enough_memory, to_rgb
from fcn_train.data.problems import DataError, Problem

Channels = Literal["color", "hha", "color-depth", "color-hha"]
"""What a network sees of each image."""

NUM_CHANNELS: dict[Channels, int] = {"color": 3, "hha": 3, "color-depth": 4, "color-hha": 6}

STREAMS: dict[Channels, dict[str, int]] = {
    "color-depth": {"color": 3, "depth": 1},
    "color-hha": {"color": 3, "hha": 3},
}
"""The inputs with their own stream in late fusion, in order: the number of channels of each."""

LOG_DEPTH_MEAN = 7.844
"""Mean of the natural logarithm of NYUDv2's depth in millimeters (the reference repository's
`nyud_layers.py`)."""

HHA_MEAN = (132.431, 94.076, 118.477)
"""Mean of NYUDv2's HHA images, in the order of their channels (the same file)."""

_METERS, _FARTHEST = 1000, 65535  # millimeters, and the most that 16 bits hold


def read_depth(path: Path) -> np.ndarray:
    """Decode a depth image to (H, W) uint16: millimeters, 0 where nothing was measured.

    Args:
        path: a picture with one 16-bit channel in these units, as Kinect's are usually saved.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, or has other pixels.
    """
    picture = decode(path, "depth image").picture
    with enough_memory(path, "depth image"):
        values = np.array(picture)
    in_range = values.ndim == 2 and values.dtype.kind in "iu" and picture.mode.startswith("I")
    if not in_range or values.min(initial=0) < 0 or values.max(initial=0) > _FARTHEST:
        message = (
            f"is no depth image but has pixels of mode {picture.mode}; save depth as a gray PNG "
            "of 16 bits, in millimeters, 0 where it is missing"
        )
        raise DataError(Problem(path, message, "depth image of other pixels"))
    return values.astype(np.uint16)


def read_hha(path: Path) -> np.ndarray:
    """Decode an HHA image to (H, W, 3) uint8, in the order of its channels.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, or does not have three
            channels of 8 bits, such as a gray picture of depth itself.
    """
    role = "HHA image"
    decoded = decode(path, role)
    mode = decoded.picture.mode
    if mode not in ("RGB", "RGBA"):
        message = (
            f"is no HHA image but has pixels of mode {mode}; write it from the depth image with: "
            "fcn data hha"
        )
        raise DataError(Problem(path, message, f"{role} of other pixels"))
    return to_rgb(decoded, path, role=role)


def depth_from_meters(meters: np.ndarray) -> np.ndarray:
    """Depth (H, W) in meters, converted to what `read_depth` returns; values that are not finite,
    not positive or beyond 65 meters count as missing.

    Example:
        >>> depth_from_meters(np.array([[1.5, 0.0, np.nan, -2.0]])).tolist()
        [[1500, 0, 0, 0]]
    """
    with np.errstate(invalid="ignore"):
        millimeters = np.rint(meters.astype(np.float64) * _METERS)
        measured = (millimeters >= 1) & (millimeters <= _FARTHEST)
    return np.where(measured, millimeters, 0).astype(np.uint16)


def log_depth(depth: np.ndarray) -> np.ndarray:
    """What a network sees of depth: (H, W) float32, `ln(millimeters) - LOG_DEPTH_MEAN`.

    Missing depth becomes 0, the mean, like the padding of a batch; the reference implementation
    takes its logarithm, which is minus infinity.

    Args:
        depth: (H, W) uint16, millimeters, 0 where it is missing.

    Example:
        >>> seen = log_depth(np.array([[0, 2551, 5000]], dtype=np.uint16))
        >>> [round(value, 3) for value in seen[0].tolist()]
        [0.0, 0.0, 0.673]
    """
    known = depth > 0
    logarithm: np.ndarray = np.log(np.where(known, depth, 1).astype(np.float32))
    logarithm -= np.float32(LOG_DEPTH_MEAN)
    logarithm[~known] = 0
    return logarithm
