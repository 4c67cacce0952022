"""Where the surfaces of the sample's scenes lie: their depth, and a second, geometric label.

Objects stand before a wall, or on level ground below the sky.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.hha import Camera

__all__ = ["SAMPLE_GEOMETRY_NAMES", "Horizon", "Surfaces", "scene_camera"]

SAMPLE_GEOMETRY_NAMES = ("sky", "horizontal", "vertical")
"""The second set of classes, SIFT Flow's: above the horizon; ground; walls and objects."""

_SKY, _HORIZONTAL, _VERTICAL = range(3)

# Millimeters.
_CAMERA_HEIGHT, _FARTHEST, _WALL = 1300, 10000, 6000
_FIRST_OBJECT, _DEPTH_OF_OBJECTS = 5500, 4000


class Horizon(NamedTuple):
    """Where ground and sky meet: the drawn line, a row for each pixel, (H, W), and the level that
    it wavers about, a row for each column, (W,)."""

    drawn: np.ndarray
    level: np.ndarray


class Surfaces:
    """Label and depth of a scene, object by object from back to front.

    Args:
        height, width: of the picture.
        horizon: of the background; None is a wall.

    Attributes:
        label: (H, W) uint8 of `SAMPLE_GEOMETRY_NAMES`, void on the borders of objects.
        depth: (H, W) float64, millimeters, 0 in the sky and on the borders of objects, where a
            camera of depth would measure none.
    """

    def __init__(self, height: int, width: int, horizon: Horizon | None) -> None:
        if horizon is None:
            self.label = np.full((height, width), _VERTICAL, dtype=np.uint8)
            self.depth = np.full((height, width), float(_WALL))
            return
        rows = np.mgrid[:height, :width][0]
        is_ground = rows > horizon.drawn
        reach = scene_camera(height, width).fy * _CAMERA_HEIGHT
        ground = reach / np.maximum(rows - horizon.level, reach / _FARTHEST)
        self.label = np.where(is_ground, _HORIZONTAL, _SKY).astype(np.uint8)
        self.depth = np.where(is_ground, ground, 0)

    def add(self, border: np.ndarray, inside: np.ndarray, nearness: float) -> None:
        """An object by two masks (H, W) bool; `nearness` is 0 at the back and 1 in front."""
        self.label[border], self.depth[border] = IGNORE_INDEX, 0
        self.label[inside] = _VERTICAL
        self.depth[inside] = _FIRST_OBJECT - nearness * _DEPTH_OF_OBJECTS


def scene_camera(height: int, width: int) -> Camera:
    """The camera that the depth of a scene of this size is seen with."""
    focal = float(max(height, width))
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2)
