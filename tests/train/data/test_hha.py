"""HHA of rooms whose every surface is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from fcn_train.data import Camera, hha_from_depth
from fcn_train.data.hha import gravity_direction, surface_normals

HEIGHT, WIDTH = 120, 160
CAMERA = Camera(130.0, 130.0, 79.5, 59.5)
FLOOR, CEILING, BACK, LEFT, RIGHT = range(5)
OUTWARD = np.array([(0, 1, 0), (0, -1, 0), (0, 0, 1), (-1, 0, 0), (1, 0, 0)], dtype=np.float64)


class Room(NamedTuple):
    """What a camera sees of a box, in closed form.

    depth: (H, W) millimeters, not rounded.
    surface: (H, W), which of the five is seen.
    above_floor: (H, W) meters.
    down: gravity in the camera's coordinates.
    """

    depth: np.ndarray
    surface: np.ndarray
    above_floor: np.ndarray
    down: np.ndarray


def room(tilt: float, roll: float = 0.0, camera_height: float = 1.2) -> Room:
    """Degrees that the camera looks down and is rolled; a box 2.5 m high, 3 m wide, its back 3.5 m
    away."""
    a, b = np.radians([tilt, roll])
    about_x = np.array([(1, 0, 0), (0, np.cos(a), np.sin(a)), (0, -np.sin(a), np.cos(a))])
    about_z = np.array([(np.cos(b), -np.sin(b), 0), (np.sin(b), np.cos(b), 0), (0, 0, 1)])
    to_world = about_x @ about_z
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    rays = np.stack(
        [
            (columns - CAMERA.cx) / CAMERA.fx,
            (rows - CAMERA.cy) / CAMERA.fy,
            np.ones_like(rows),
        ],
        axis=2,
    )
    world = rays @ to_world.T
    distances = np.array([camera_height, 2.5 - camera_height, 3.5, 1.5, 1.5])
    speed = world @ OUTWARD.T
    meters = np.where(speed > 1e-9, distances / np.where(speed > 1e-9, speed, 1), np.inf)
    z = meters.min(axis=2)
    above = camera_height - world[:, :, 1] * z
    return Room(1000 * z, meters.argmin(axis=2), above, to_world.T @ (0, 1, 0))


def away_from_edges(surface: np.ndarray, radius: int) -> np.ndarray:
    inner = np.zeros(surface.shape, dtype=bool)
    windows = sliding_window_view(surface, (2 * radius + 1,) * 2)
    here = surface[radius:-radius, radius:-radius]
    inner[radius:-radius, radius:-radius] = (windows == here[:, :, None, None]).all(axis=(2, 3))
    return inner


@pytest.mark.parametrize(("tilt", "roll"), [(0, 0), (20, 0), (-15, 4), (35, -6), (10, 12)])
def test_normals_of_planes_are_exact(tilt: float, roll: float) -> None:
    seen = room(tilt, roll)
    for radius in (2, 3, 10):
        normals = surface_normals(seen.depth, CAMERA, radius)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-12)
        inner = away_from_edges(seen.surface, radius)
        floor = inner & (seen.surface == FLOOR)
        if floor.any():
            np.testing.assert_allclose(normals[floor] @ seen.down, 1, atol=1e-7)
        for wall in (BACK, LEFT, RIGHT):
            found = normals[inner & (seen.surface == wall)] @ seen.down
            np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize(("tilt", "roll"), [(0, 0), (20, 0), (-15, 4), (35, -6), (10, 12)])
def test_gravity_is_found_whatever_the_camera_does(tilt: float, roll: float) -> None:
    seen = room(tilt, roll)
    found = gravity_direction(surface_normals(seen.depth, CAMERA, 10))
    assert np.linalg.norm(found) == pytest.approx(1)
    assert np.degrees(np.arccos(min(1.0, found @ seen.down))) < 0.5


@pytest.mark.parametrize(("tilt", "roll"), [(0, 0), (20, 0), (25, 6)])
def test_three_channels_of_a_room(tilt: float, roll: float) -> None:
    """Floor 38, walls 128, ceiling 218; centimeters; 31000 over centimeters, at least 100."""
    seen = room(tilt, roll)
    hha = hha_from_depth(np.rint(seen.depth).astype(np.uint16), CAMERA)
    assert hha.dtype == np.uint8
    centimeters = np.maximum(np.rint(seen.depth) / 10, 100)
    np.testing.assert_allclose(hha[:, :, 0], np.minimum(31000 / centimeters, 255), atol=0.5)
    assert (seen.surface == FLOOR).any()
    np.testing.assert_allclose(
        hha[:, :, 1], np.clip(100 * seen.above_floor, 0, 255), rtol=0, atol=6
    )
    inner = away_from_edges(seen.surface, 3)
    for surface, angle in ((FLOOR, 38), (BACK, 128), (LEFT, 128), (RIGHT, 128), (CEILING, 218)):
        found = hha[inner & (seen.surface == surface), 2].astype(int)
        assert (np.abs(found - angle) <= 2).all(), surface


@pytest.mark.parametrize("turn", [0, 30, -50])
def test_a_single_wall_leaves_the_camera_upright(turn: float) -> None:
    """It fits every direction along it; down stays the camera's own."""
    angle = np.radians(turn)
    columns = np.mgrid[:HEIGHT, :WIDTH][1]
    u = (columns - CAMERA.cx) / CAMERA.fx
    depth = np.rint(2000 / (np.cos(angle) + u * np.sin(angle)))
    assert (depth > 0).all()
    down = gravity_direction(surface_normals(depth, CAMERA, 10))
    np.testing.assert_allclose(down, (0, 1, 0), atol=0.01)


def test_gravity_without_any_normal_is_the_cameras() -> None:
    for normals in (np.full((4, 4, 3), np.nan), np.zeros((0, 3))):
        assert gravity_direction(normals).tolist() == [0, 1, 0]


def test_ground_is_assumed_where_no_floor_is_in_sight() -> None:
    seen = room(-35, camera_height=1.2)
    assert FLOOR not in seen.surface
    hha = hha_from_depth(seen.depth, CAMERA)
    expected = np.clip(100 * (seen.above_floor - 1.2) + 130, 0, 255)
    np.testing.assert_allclose(hha[:, :, 1], expected, rtol=0, atol=3)


def test_missing_depth_is_zero_and_changes_nothing_else() -> None:
    seen = room(20)
    whole = hha_from_depth(seen.depth, CAMERA)
    holes = seen.depth.copy()
    holes[::7, ::5] = 0
    holes[30:60, 40:70] = 0
    hha = hha_from_depth(holes, CAMERA)
    assert not hha[holes == 0].any()
    assert (hha[holes > 0, 0] > 0).all()
    inner = away_from_edges(seen.surface, 3) & (holes > 0)
    difference = np.abs(hha[inner].astype(int) - whole[inner])
    assert difference.max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (7, 3)])
def test_odd_depth_images(shape: tuple[int, int]) -> None:
    assert not hha_from_depth(np.zeros(shape, np.uint16), CAMERA).any()
    hha = hha_from_depth(np.full(shape, 65535, np.uint16), CAMERA)
    assert (hha[:, :, 0] == 5).all()
    # A single row tells no plane: its angle is a wall's.
    assert (np.abs(hha[:, :, 2].astype(int) - 128) <= 1).all()
    assert hha_from_depth(np.full(shape, 65535, np.uint16)[::-1, ::-1], CAMERA).shape == hha.shape


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"depth must have shape \(H, W\), got \(2, 2, 1\)"):
        hha_from_depth(np.zeros((2, 2, 1)), CAMERA)
    with pytest.raises(
        ValueError, match=r"focal lengths must be in \[0.01, 1e\+06\], got 0 and 130"
    ):
        hha_from_depth(np.zeros((2, 2)), CAMERA._replace(fx=0))


Command = Callable[..., tuple[int, str, str]]


def test_command_writes_one_image_each(command: Command, tmp_path: Path) -> None:
    depth = np.rint(room(20).depth).astype(np.uint16)
    for name in ("a", "city/b"):
        path = tmp_path / "depth" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(depth).save(path)
    flags = ("data", "hha", "--depth", tmp_path / "depth", "--output", tmp_path / "hha")
    code, out, err = command(*flags, "--camera", *map(str, CAMERA))
    assert (code, out, err) == (0, f"{tmp_path / 'hha'}: 2 HHA images\n", "")
    for name in ("a", "city/b"):
        found = np.asarray(Image.open(tmp_path / "hha" / f"{name}.png"))
        assert np.array_equal(found, hha_from_depth(depth, CAMERA))
    code, _, err = command(*flags)
    assert code == 2
    assert "a.png: is 160 x 120 pixels, not 640 x 480 as NYUDv2's; say what took it: --camer" in err


@pytest.mark.parametrize("state", ["absent", "empty", "color"])
def test_command_names_what_it_cannot_use(state: str, command: Command, tmp_path: Path) -> None:
    depth = tmp_path / "depth"
    if state != "absent":
        depth.mkdir()
    if state == "color":
        Image.new("RGB", (4, 4)).save(depth / "a.png")
    code, _, err = command("data", "hha", "--depth", depth, "--output", tmp_path / "hha")
    expected = {
        "absent": "depth: folder is missing; give that of the depth images",
        "empty": "depth: holds no image file; give the folder of depth images",
        "color": "a.png: is no depth image but has pixels of mode RGB; save depth as a gray PNG",
    }
    assert (code, err.count("\n")) == (2, 1)
    assert expected[state] in err
    code, _, err = command(
        *("data", "hha", "--depth", depth, "--output", tmp_path / "hha"),
        *("--camera", "0", "1", "1", "1"),
    )
    assert code == 2
