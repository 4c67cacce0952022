"""HHA: depth as horizontal disparity, height above ground, and angle with gravity.

Gupta, Girshick, Arbelaez and Malik, "Learning Rich Features from RGB-D Images for Object Detection
and Segmentation", ECCV 2014, section 2.2; the direction of gravity as in Gupta, Arbelaez and Malik,
"Perceptual Organization and Recognition of Indoor Scenes from RGB-D Images", CVPR 2013, section
3.2. Scales, slack and limits of the three channels are those of the published `saveHHA.m`.

Camera coordinates: x to the right, y down, z into the scene.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "NYUD_CAMERA",
    "Camera",
    "check_camera",
    "gravity_direction",
    "hha_from_depth",
    "surface_normals",
]

_NORMAL_RADIUS, _GRAVITY_RADIUS = 3, 10  # pixels around each one to which its plane is fitted
_LEAST_POINTS = 6  # to fit such a plane
_ANGLES = ((45.0, 5), (15.0, 5))  # degrees to floors and walls, and how often to improve
_TIE = 0.01
_DISPARITY_SCALE = 31000.0  # over centimeters
_NEAREST = 100.0  # centimeters; closer disparities would not fit 8 bits
_ANGLE_SHIFT = 128 - 90  # degrees, so that walls are in the middle
_FLOOR_IN_SIGHT = 90.0  # centimeters below the camera that the lowest point must be
_CAMERA_HEIGHT = 130.0  # centimeters, assumed where no floor is in sight
_FOCAL_LENGTHS = 0.01, 1e6  # pixels, of any camera


class Camera(NamedTuple):
    """A pinhole camera: focal lengths and principal point in pixels, counted from 0 at the center
    of the first pixel."""

    fx: float
    fy: float
    cx: float
    cy: float


NYUD_CAMERA = Camera(518.8579, 519.4696, 324.5824, 252.7362)
"""The color camera of NYUDv2, 640 x 480 (Silberman et al., 2012, `camera_params.m`), to which its
depth is projected; counted there from 1."""


def hha_from_depth(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """The HHA image of a depth image.

    Args:
        depth: (H, W) in millimeters, 0 where it is missing.
        camera: that took it.

    Returns:
        (H, W, 3) uint8, limited to 0..255:

        * 31000 / z, where z is the depth in centimeters, at least 100;
        * height above the lowest point in centimeters; where that is less than 90 cm below the
          camera, no floor is in sight, and the ground is taken to be 130 cm below the camera;
        * angle between surface normal (into the scene) and gravity in degrees, plus 38: about 38 on
          floors, 128 on walls, 218 on ceilings.

        Missing depth gives (0, 0, 0), and disparity is at least 1 elsewhere. Where too little is
        measured around a pixel to fit a plane, the angle is a wall's.

    Raises:
        ValueError: if `depth` is no matrix, or `check_camera` refuses the camera.

    Example:
        A wall two meters away, seen straight on:

        >>> hha_from_depth(np.full((9, 9), 2000, np.uint16), Camera(10, 10, 4, 4))[4, 4].tolist()
        [155, 130, 128]
    """
    if depth.ndim != 2:
        raise ValueError(f"depth must have shape (H, W), got {depth.shape}")
    check_camera(camera)
    known = depth > 0
    hha = np.zeros((*depth.shape, 3), dtype=np.uint8)
    if not known.any():
        return hha
    z = depth.astype(np.float64) / 10
    rays = _rays(depth.shape, camera)
    gravity = gravity_direction(surface_normals(depth, camera, _GRAVITY_RADIUS))
    height = -(rays @ gravity) * z
    lowest = height[known].min()
    if lowest > -_FLOOR_IN_SIGHT:
        lowest = -_CAMERA_HEIGHT
    cosine = surface_normals(depth, camera, _NORMAL_RADIUS) @ gravity
    angle = np.degrees(np.arccos(np.clip(np.nan_to_num(cosine), -1, 1)))
    disparity = _DISPARITY_SCALE / np.maximum(z, _NEAREST)
    channels = (np.maximum(disparity, 1), height - lowest, angle + _ANGLE_SHIFT)
    values = np.rint(np.clip(np.stack(channels, axis=2), 0, 255)).astype(np.uint8)
    hha[known] = values[known]
    return hha


def check_camera(camera: Camera) -> None:
    """Refuse impossible numbers of a camera.

    Raises:
        ValueError: if a focal length is not in [0.01, 1e6] pixels, or the principal point is not
            within 1e6 pixels of the image.
    """
    least, most = _FOCAL_LENGTHS
    if not all(least <= length <= most for length in camera[:2]):
        raise ValueError(
            f"focal lengths must be in [{least:g}, {most:g}], got {camera.fx:g} and {camera.fy:g}"
        )
    if not all(abs(place) <= most for place in camera[2:]):
        raise ValueError(
            f"the principal point must be in [{-most:g}, {most:g}], got {camera.cx:g} and "
            f"{camera.cy:g}"
        )


def surface_normals(depth: np.ndarray, camera: Camera, radius: int) -> np.ndarray:
    """Unit normals of the surface at each pixel, pointing into the scene.

    A plane n . P = 1 is linear in the image: with P = z (u, v, 1) it reads n . (u, v, 1) = 1 / z. n
    is the least-squares solution over the pixels of a square that have depth, so planes that fill
    it are found exactly.

    Args:
        depth: (H, W), 0 where it is missing; its unit does not matter.
        camera: that took it.
        radius: the square has a side of 2 radius + 1 pixels, less at the border.

    Returns:
        (H, W, 3) float64; NaN where depth is missing, or where too few pixels around have it.
    """
    known = (depth > 0).astype(np.float64)
    inverse = known / np.where(depth > 0, depth, 1)
    u, v, _ = np.moveaxis(_rays(depth.shape, camera), 2, 0)

    points: np.ndarray = np.maximum(_box_sum(known, radius), 1)

    def mean(values: np.ndarray) -> np.ndarray:
        quotient: np.ndarray = _box_sum(known * values, radius) / points
        return quotient

    mean_u, mean_v, mean_inverse = mean(u), mean(v), mean(inverse)
    # Covariances: moments about the mean, of the window's own scale, do not cancel.
    uu, vv, uv = mean(u * u) - mean_u**2, mean(v * v) - mean_v**2, mean(u * v) - mean_u * mean_v
    ui = mean(u * inverse) - mean_u * mean_inverse
    vi = mean(v * inverse) - mean_v * mean_inverse
    determinant = uu * vv - uv**2
    # One pixel's spread in both directions is the least that determines a plane.
    fits = (depth > 0) & (points >= _LEAST_POINTS)
    fits &= determinant > 1e-3 / (camera.fx * camera.fy) ** 2
    safe = np.where(fits, determinant, 1)
    a, b = (vv * ui - uv * vi) / safe, (uu * vi - uv * ui) / safe
    normal: np.ndarray = np.stack([a, b, mean_inverse - a * mean_u - b * mean_v], axis=2)
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    fits &= length[:, :, 0] > 0
    normal /= np.where(length > 0, length, 1)
    normal[~fits] = np.nan
    return normal


def gravity_direction(normals: np.ndarray) -> np.ndarray:
    """The unit vector down, to which floors' normals are most parallel and walls' most orthogonal.

    Starts from the camera's own y axis and alternates: normals within an angle of it are floors',
    those within the angle of a right angle are walls'; the new direction is the eigenvector of
    their scatter, walls' minus floors', of the smallest eigenvalue. Five times with 45 degrees,
    five with 15. Where one wall is all that is seen, every direction along it is as good: of those
    as good within 1 % of the normals, the nearest to the last one is taken.

    Args:
        normals: (..., 3), NaN where unknown. Without any, the result is (0, 1, 0).
    """
    flat = normals.reshape(-1, 3)
    flat = flat[np.isfinite(flat).all(axis=1)]
    down = np.array([0.0, 1.0, 0.0])
    for degrees, times in _ANGLES:
        angle = np.radians(degrees)
        for _ in range(times):
            cosine = np.abs(flat @ down)
            floors, walls = flat[cosine > np.cos(angle)], flat[cosine < np.sin(angle)]
            if not len(floors) and not len(walls):
                return down
            values, vectors = np.linalg.eigh(walls.T @ walls - floors.T @ floors)
            as_good = vectors[:, values <= values[0] + _TIE * (len(floors) + len(walls))]
            nearest = as_good @ (as_good.T @ down)
            length = np.linalg.norm(nearest)
            if length < _TIE:
                return down
            down = nearest / length
    return down


def _rays(shape: tuple[int, ...], camera: Camera) -> np.ndarray:
    """The direction of each pixel: (H, W, 3), its point at depth 1."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    return np.stack([x, y, np.ones_like(x)], axis=2)


def _box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """Sums over the square around each pixel, cut at the border; (H, W)."""
    side = 2 * radius + 1
    for _ in range(2):  # along the columns, then along the rows
        sums = np.cumsum(np.pad(values, ((radius + 1, radius), (0, 0))), axis=0)
        values = (sums[side:] - sums[:-side]).T
    return values
