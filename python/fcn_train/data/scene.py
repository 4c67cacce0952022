"""The pictures of the sample data set: textured objects before textured backgrounds.

A class is a hue, an outline and a texture. Each hue belongs to four classes, which are two
outlines with two textures each, so that neither color, outline nor texture alone tells a class.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.example import Example
from fcn_train.data.scene_depth import Horizon, Surfaces

_FAMILIES = (
    ("red", 0.0, ("disc", "star"), ("plain", "striped")),
    ("amber", 0.12, ("square", "cross"), ("checked", "plain")),
    ("green", 0.35, ("triangle", "ring"), ("striped", "spotted")),
    ("blue", 0.59, ("arrow", "crescent"), ("spotted", "checked")),
    ("violet", 0.79, ("heart", "flower"), ("plain", "striped")),
)
_HUES = {name: hue for name, hue, _, _ in _FAMILIES}
_KINDS = tuple(
    (color, texture, outline)
    for color, _, outlines, textures in _FAMILIES
    for outline in outlines
    for texture in textures
)

SAMPLE_CLASS_NAMES = ("background", *(" ".join(kind) for kind in _KINDS))
"""Background and the twenty objects, "red plain disc" to "violet striped flower"."""

_SUPERSAMPLING = 4
_MIN_VISIBLE = 0.4


@dataclass(frozen=True, eq=False)
class _Object:
    """One object placed on the canvas: its class 1..20 and the pose of its outline."""

    kind: int
    row: float
    column: float
    radius: float
    angle: float
    aspect: float
    bend: np.ndarray


def draw_scene(
    classes: Sequence[int], height: int, width: int, rng: np.random.Generator
) -> Example:
    """Objects of the given classes, in order from back to front.

    Args:
        classes: indices 1..20, each becoming one object that is at least partly in sight.
        height, width: size of the picture in pixels.
        rng: decides everything else.

    Returns:
        Image, label, a second label map of `SAMPLE_GEOMETRY_NAMES`, and depth. The label maps mark
        a band of two pixels around each object as void, where depth is missing, as it is in the
        sky.
    """
    canvas, horizon = _background(height, width, rng)
    objects, masks = _place(classes, height, width, rng)
    label = np.zeros((height, width), dtype=np.uint8)
    surfaces = Surfaces(height, width, horizon)
    light = rng.uniform(0, 2 * np.pi)
    for number, (item, mask) in enumerate(zip(objects, masks, strict=True), 1):
        opacity = np.asarray(mask, dtype=np.float32)[:, :, None] / 255
        canvas *= 1 - 0.45 * _shadow(mask, light)[:, :, None]
        canvas += opacity * (_surface(item, mask, light, rng) - canvas)
        inside = mask.point(lambda value: 255 * (value >= 128))
        grown = np.asarray(inside.filter(ImageFilter.MaxFilter(3)))
        shrunk = np.asarray(inside.filter(ImageFilter.MinFilter(3)))
        label[grown > 0] = IGNORE_INDEX
        label[shrunk > 0] = item.kind
        surfaces.add(grown > 0, shrunk > 0, number / len(objects))
    noise = rng.normal(0, rng.uniform(2, 7), size=(height, width, 1))
    noise = noise + rng.normal(0, 2, size=canvas.shape)
    canvas = canvas * rng.uniform(0.85, 1.1) + noise
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    depth = np.rint(surfaces.depth).astype(np.uint16)
    return Example(image, label, (surfaces.label,), depth)


def _place(
    classes: Sequence[int], height: int, width: int, rng: np.random.Generator
) -> tuple[list[_Object], list[Image.Image]]:
    """Poses of the objects: the first of a dozen that leaves enough of those behind in sight."""
    objects: list[_Object] = []
    masks: list[Image.Image] = []
    areas: list[float] = []
    visible: list[np.ndarray] = []
    for kind in classes:
        best_share = -1.0
        for _ in range(12):
            item = _pose(kind, height, width, rng)
            mask = _mask(item, height, width)
            covers = np.asarray(mask) >= 128
            left = [
                np.count_nonzero(seen & ~covers) / area
                for seen, area in zip(visible, areas, strict=True)
            ]
            share = min(left, default=1.0)
            if share > best_share:
                best_share, best = share, (item, mask, covers)
            if share >= _MIN_VISIBLE:
                break
        item, mask, covers = best
        visible = [seen & ~covers for seen in visible]
        objects.append(item)
        masks.append(mask)
        areas.append(max(1.0, float(np.count_nonzero(covers))))
        visible.append(covers)
    return objects, masks


def _pose(kind: int, height: int, width: int, rng: np.random.Generator) -> _Object:
    radius = min(height, width) * rng.uniform(0.16, 0.3)
    return _Object(
        kind=kind,
        row=rng.uniform(0.08, 0.92) * height,
        column=rng.uniform(0.08, 0.92) * width,
        radius=radius,
        angle=rng.normal(0, 0.45),
        aspect=np.exp(rng.uniform(-0.25, 0.25)),
        bend=rng.normal(0, 0.05, size=4),
    )


def _mask(item: _Object, height: int, width: int) -> Image.Image:
    """Coverage of every pixel by the object, 0..255, mode L."""
    big = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(big)
    for fill, points in _OUTLINES[_KINDS[item.kind - 1][2]]:
        draw.polygon([tuple(point) for point in _posed(points, item)], fill=fill)
    return big.reduce(_SUPERSAMPLING)


def _posed(points: np.ndarray, item: _Object) -> np.ndarray:
    """Outline points (x, y) in units of the radius to supersampled canvas coordinates."""
    stretch = np.array([np.sqrt(item.aspect), 1 / np.sqrt(item.aspect)])
    x, y = (points * stretch).T
    x, y = (
        x + item.bend[0] * y * y + item.bend[1] * x * y,
        y + item.bend[2] * x * x + item.bend[3] * x * y,
    )
    cosine, sine = np.cos(item.angle), np.sin(item.angle)
    columns = item.column + item.radius * (cosine * x - sine * y)
    rows = item.row + item.radius * (sine * x + cosine * y)
    return np.stack([columns, rows], axis=1) * _SUPERSAMPLING


def _outlines() -> dict[str, list[tuple[int, np.ndarray]]]:
    """Polygons (x right, y down, radius about 1) and the value each is filled with, in order."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    corner = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.1, 0.46)
    star = np.stack([reach * np.cos(corner), reach * np.sin(corner)], axis=1)
    arm, end = 0.33, 1.0
    quarter = np.array([(arm, -end), (arm, -arm), (end, -arm)])
    turned = np.array([(0, 1), (-1, 0)])
    corners = [quarter @ np.linalg.matrix_power(turned, turns) for turns in range(4)]
    half = np.array([(0.0, -1.1), (0.9, -0.1), (0.4, -0.1), (0.4, 1.0)])
    x = 16 * np.sin(turn) ** 3
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return {
        "disc": [(255, 0.9 * circle)],
        "star": [(255, star)],
        "square": [(255, 0.8 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))],
        "cross": [(255, np.concatenate(corners))],
        "triangle": [(255, np.array([(0, -1.05), (1.0, 0.75), (-1.0, 0.75)]))],
        "ring": [(255, 1.0 * circle), (0, 0.5 * circle)],
        "arrow": [(255, np.concatenate([half, half[::-1] * (-1, 1)]))],
        "crescent": [(255, 1.0 * circle), (0, 0.8 * circle + (0.5, -0.15))],
        "heart": [(255, np.stack([x, -y], axis=1) / 16)],
        "flower": [(255, (0.8 + 0.28 * np.cos(5 * turn))[:, None] * circle)],
    }


_OUTLINES = _outlines()


def _surface(
    item: _Object, mask: Image.Image, light: float, rng: np.random.Generator
) -> np.ndarray:
    """The object's color at every pixel, (H, W, 3) float32: its texture in two tones, shaded."""
    color, texture, _ = _KINDS[item.kind - 1]
    hue = (_HUES[color] + rng.normal(0, 0.018)) % 1.0
    saturation, value = rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95)
    first = _rgb(hue, saturation, value)
    if rng.random() < 0.5:
        second = _rgb(hue, saturation * 0.25, min(1.0, value + 0.25))
    else:
        second = _rgb(hue, saturation, value * 0.4)
    height, width = mask.height, mask.width
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = _turned(columns - item.column, rows - item.row, item.angle + rng.normal(0, 0.3))
    weight = _pattern(texture, x, y, rng)[:, :, None]
    surface = first * (1 - weight) + second * weight
    blurred = mask.filter(ImageFilter.GaussianBlur(item.radius / 4))
    roundness = 0.7 + 0.35 * np.asarray(blurred, dtype=np.float32) / 255
    towards, _ = _turned(columns - item.column, rows - item.row, light)
    lit: np.ndarray = surface * (roundness * (1 - 0.15 * towards / item.radius))[:, :, None]
    return lit


def _pattern(texture: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weight of the second tone at the coordinates, 0..1."""
    period = rng.uniform(5.5, 9.0)
    u, v = (2 * np.pi * (axis / period + rng.random()) for axis in (x, y))
    return _TEXTURES[texture](u, v)


def _edge(wave: np.ndarray) -> np.ndarray:
    weight: np.ndarray = np.clip(0.5 + 2.0 * wave, 0, 1)
    return weight


_TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda u, v: np.zeros_like(u),
    "striped": lambda u, v: _edge(np.sin(u)),
    "checked": lambda u, v: _edge(1.5 * np.sin(u) * np.sin(v)),
    "spotted": lambda u, v: _edge(np.cos(u) + np.cos(v) - 0.6),
}


def _shadow(mask: Image.Image, light: float) -> np.ndarray:
    """Darkness of the shadow cast away from the light, (H, W) float32 in 0..1."""
    shift = (round(3 * np.cos(light)), round(3 * np.sin(light)))
    moved = Image.new("L", mask.size)
    moved.paste(mask, shift)
    return np.asarray(moved.filter(ImageFilter.GaussianBlur(2)), dtype=np.float32) / 255


def _background(
    height: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, Horizon | None]:
    """Cloudy ground of two or three colors, at times tiled or with a horizon: (H, W, 3), and that
    horizon."""
    tones = [_rgb(rng.random(), rng.uniform(0.05, 0.55), rng.uniform(0.2, 0.9)) for _ in range(3)]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    cloud = _cloud(height, width, rng)
    canvas: np.ndarray = tones[0] + (tones[1] - tones[0]) * cloud[:, :, None]
    horizon = None
    if rng.random() < 0.5:
        slope = rng.normal(0, 0.15) * (columns - width / 2)
        level = rng.uniform(0.3, 0.7) * height + slope
        line = level + 8 * (_cloud(height, width, rng) - 0.5)
        horizon = Horizon(line, level[0])
        below = np.clip(rows - line, 0, 1)[:, :, None]
        canvas += below * (tones[2] * (0.7 + 0.6 * cloud[:, :, None]) - canvas)
    if rng.random() < 0.5:
        x, y = _turned(columns, rows, rng.uniform(0, np.pi))
        texture = ("striped", "checked", "spotted")[rng.integers(3)]
        scale = rng.uniform(0.5, 1.6)
        contrast = rng.uniform(0.08, 0.3)
        weight = _pattern(texture, x * scale, y * scale, rng)[:, :, None]
        canvas *= 1 + contrast * (weight - 0.5)
    return canvas, horizon


def _cloud(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of four octaves, (H, W) float32 spread over 0..1."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(4):
        cells = 3 * 2**octave
        grid = rng.random((cells, cells), dtype=np.float32)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.5**octave
    total -= total.min()
    total /= total.max()
    return total


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV in 0..1 to RGB in 0..255, (3,) float32."""
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32) * 255
