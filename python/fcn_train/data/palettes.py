"""Checks that each value has the same color in all label files of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fcn_train.data.problems import DataError, Problem

__all__ = ["Palettes"]

Color = tuple[int, int, int]


class Palettes:
    """The colors that the palettes of files give to the values in use, file by file.

    A tool that reduces the colors of a picture orders them anew in each file: the colors then are
    right and the values mean nothing. The same happens to gray labels that become palette ones, so
    gray files and those with a palette of grays are compared as well.
    """

    def __init__(self) -> None:
        self._colors: dict[int, tuple[Color, Path]] = {}
        self._grays: dict[int, tuple[Color, Path]] = {}

    def check(self, path: Path, picture: Image.Image) -> None:
        """Compare a picture of mode P or L with those before it.

        Raises:
            DataError: if a value that it uses has another color in one of them.
        """
        if picture.mode not in ("P", "L"):
            return
        if picture.format == "GIF" and is_gray(palette_entries(picture)):
            return  # read by its grays
        used = [value for value, count in enumerate(picture.histogram()) if count]
        if picture.mode == "L":
            self._compare(path, {value: (value, value, value) for value in used}, self._grays)
            return
        entries = palette_entries(picture)
        colors = {value: _color(entries, value) for value in used}
        if is_gray(entries):
            if not _is_ramp(entries) and any(v != color[0] for v, color in colors.items()):
                message = (
                    "has a palette of grays that are not its values, as programs write that pack "
                    "a gray picture, where values mean nothing; if they are right give "
                    "--data.label-colors ignore, else save the label as gray of 8 bits"
                )
                raise DataError(Problem(path, message, "label with a palette of grays"))
            self._compare(path, colors, self._grays)
        self._compare(path, colors, self._colors)

    def _compare(
        self, path: Path, colors: dict[int, Color], known: dict[int, tuple[Color, Path]]
    ) -> None:
        for value, color in colors.items():
            before, other = known.setdefault(value, (color, path))
            if before != color:
                message = (
                    f"shows value {value} in the color {color}, {other} in {before}: is it one "
                    "class? If the values are right, give --data.label-colors ignore; if the "
                    "colors are, --data.label-colors FILE"
                )
                raise DataError(Problem(path, message, "label whose palette differs"))


def palette_entries(picture: Image.Image) -> np.ndarray:
    """The palette that a picture's file holds, (entries, 3) uint8."""
    return np.array(picture.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)


def is_gray(entries: np.ndarray) -> bool:
    return bool((entries == entries[:, :1]).all())


def _is_ramp(entries: np.ndarray) -> bool:
    """Whether grays rise evenly from black to white, as a palette made to tell classes apart."""
    levels = np.trim_zeros(entries[:, 0].astype(np.int64), "b")
    even = np.arange(len(levels)) * 255 / max(1, len(levels) - 1)
    return len(levels) > 1 and bool((np.abs(levels - even) <= 1).all())


def _color(entries: np.ndarray, value: int) -> Color:
    if value >= len(entries):
        return (0, 0, 0)
    red, green, blue = entries[value].tolist()
    return red, green, blue
