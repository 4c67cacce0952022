"""Decodes label files, and finds everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fcn_ext.numpy import decode_palette
from fcn_train.data.coding import IGNORE_INDEX, LabelCoding
from fcn_train.data.images import IMAGE_SUFFIXES, Decoded, decode, enough_memory
from fcn_train.data.palettes import Palettes, is_gray, palette_entries
from fcn_train.data.problems import DataError, Problem, shortened
from fcn_train.words import counted

LABEL_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
"""File endings of labels; JPEGs are among them only to be refused by name when read."""

_LOSSY = {"JPEG": "a JPEG", "MPO": "a JPEG", "JPEG2000": "a JPEG 2000", "AVIF": "an AVIF"}


class LabelReader(Protocol):
    """Reads the labels of one data set, in two steps so that both faults of a label with the wrong
    size and wrong values are reported."""

    @property
    def meaning(self) -> list[tuple[Any, int]]:
        """The values that do not stand for the class of the same number, and their meanings, as
        JSON."""

    def decode(self, path: Path) -> np.ndarray:
        """The values of a file, (H, W) of integers.

        Raises:
            DataError: if the file is missing or cannot be decoded.
        """

    def classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        """The class of each value, (H, W) uint8; `IGNORE_INDEX` is void.

        Raises:
            DataError: if a value stands for nothing.
        """


class PictureLabels:
    """Labels that are pictures: of class indices, or in the colors of classes.

    Args:
        num_classes: classes are 0..num_classes - 1.
        coding: the meaning of the values, fitted to these classes.
        palette: (256, 3) uint8 colors of the classes, by which a label saved in colors is told from
            any other picture.
        published: the source of this coding, such as the data set that it was published with, if no
            option gives another coding.
    """

    def __init__(
        self, num_classes: int, coding: LabelCoding, palette: np.ndarray, published: str = ""
    ) -> None:
        self.coding = coding
        self._published = published
        self._num_classes = num_classes
        self._palette = palette
        self._table = coding.table(num_classes)
        self._is_wrong = (self._table < 0) | (
            (self._table >= num_classes) & (self._table != IGNORE_INDEX)
        )
        self._is_plain = np.array_equal(self._table[~self._is_wrong], np.where(~self._is_wrong)[0])
        self._to_class = np.where(self._is_wrong, 0, self._table).astype(np.uint8)
        self._palettes = None if coding.any_palette or coding.colors else Palettes()
        colors = coding.pairs_of_colors
        self._colors = np.array([color for color, _ in colors], dtype=np.uint8)
        self._color_class = np.array([index for _, index in colors], dtype=np.uint8)

    @property
    def meaning(self) -> list[tuple[Any, int]]:
        return self.coding.meaning(self._num_classes)

    def compare_with(self, other: PictureLabels) -> None:
        """Use one palette with the labels of another split."""
        if self._palettes is not None and other._palettes is not None:
            self._palettes = other._palettes

    def decode(self, path: Path) -> np.ndarray:
        with enough_memory(path, "label"):
            return self._decode(path)

    def _decode(self, path: Path) -> np.ndarray:
        decoded = _decode_lossless(path)
        if self.coding.colors:
            return self._by_color(path, decoded.picture)
        values = _values(path, decoded, self._palette, shades=bool(self.coding.classes))
        if self._palettes is not None:
            self._palettes.check(path, decoded.picture)
        return values

    def classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        if self.coding.colors:
            return values
        wrong = self._is_wrong[values]
        if wrong.any():
            raise DataError(Problem(path, self._no_class(values, wrong), "label of wrong values"))
        return values if self._is_plain else self._to_class[values]

    def _by_color(self, path: Path, picture: Image.Image) -> np.ndarray:
        pixels = np.asarray(picture.convert("RGB"))
        try:
            places = decode_palette(pixels, self._colors)
        except ValueError:
            packed = pixels.astype(np.int64) @ (65536, 256, 1)
            wrong = ~np.isin(packed, self._colors.astype(np.int64) @ (65536, 256, 1))
            colors = np.unique(pixels[wrong], axis=0).tolist()
            message = (
                "has colors that label-colors does not name: "
                f"{shortened([tuple(color) for color in colors], 4)} in {_where(wrong)}; "
                "add them, to void or to a class, or correct the file"
            )
            raise DataError(Problem(path, message, "label of wrong colors")) from None
        return self._color_class[places]

    def _no_class(self, values: np.ndarray, wrong: np.ndarray) -> str:
        strangers = np.unique(values[wrong]).tolist()
        found = f"{shortened(strangers)} in {_where(wrong)}"
        if self._published:
            return (
                f"has label values that {self._published} has no class for: {found}; correct the "
                "file"
            )
        if self.coding.classes:
            return (
                f"has label values that --data.label-map does not name: {found}; add them, or "
                "correct the file"
            )
        first = self.coding.first_class
        last = first + self._num_classes - 1
        void = ", ".join(str(value) for value in sorted({IGNORE_INDEX, *self.coding.void}))
        remedy = "say what the values mean: --data.label-map VALUE=CLASS,..."
        if strangers == [last + 1]:
            remedy = f"if classes count from {first + 1}: --data.first-class {first + 1}"
        elif strangers == [0]:
            remedy = "if 0 is void: --data.void-label 0"
        return (
            f"has label values outside {first}..{last} and {void} (void): {found}; correct the "
            f"file or the number of classes, or {remedy}"
        )


def read_label(path: Path, palette: np.ndarray | None = None) -> np.ndarray:
    """Decode a label map to (H, W) uint8, palette PNG as indices.

    Args:
        path: a file with one channel of 8 bits, with or without a palette.
        palette: (256, 3) uint8; by it a label saved in these colors is told from any other RGB
            picture.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, is a JPEG, is gray with
            fewer than 8 bits, or holds colors instead of indices.
    """
    return _values(path, _decode_lossless(path), palette, shades=False)


def _decode_lossless(path: Path) -> Decoded:
    decoded = decode(path, "label")
    picture = decoded.picture
    name = _LOSSY.get(picture.format or "")
    if name is None and picture.info.get("compression") in ("jpeg", "tiff_jpeg"):
        name = "a TIFF of JPEG compression"
    if name is not None:
        message = f"is {name}, whose compression alters label values; save labels as PNG"
        raise DataError(Problem(path, message, "label of lossy compression"))
    if decoded.frames > 1:
        message = f"holds {decoded.frames} pictures; save the one that is the label alone"
        raise DataError(Problem(path, message, "label of several pictures"))
    return decoded


def _values(
    path: Path, decoded: Decoded, palette: np.ndarray | None, *, shades: bool
) -> np.ndarray:
    """The values of a label; with `shades`, gray of fewer than 8 bits is read as brightness."""
    picture = decoded.picture
    if picture.mode == "1" or (picture.mode == "L" and decoded.coding.startswith(("L;2", "L;4"))):
        # In PNG the brightest of 2 or 4 bits is 255, as for programs that pack 8 bits into fewer;
        # programs that write indices mean 3 or 15. Only black is 0 for all of them.
        values = np.array(picture.convert("L"))
        if values.any() and not shades:
            bits = "1 bit" if picture.mode == "1" else "fewer than 8 bits"
            message = (
                f"is gray with {bits} per pixel, and white is 255 to some programs and the highest "
                "class to others; save labels with 8 bits, or say what the brightness 0..255 "
                "means, for black and white: --data.label-map 0=0,255=1"
            )
            raise DataError(Problem(path, message, "gray label of fewer than 8 bits"))
        return values
    if picture.format == "GIF" and picture.mode == "P" and is_gray(palette_entries(picture)):
        # GIF has no other gray, and programs number the grays differently in each file.
        return np.array(picture.convert("L"))
    if picture.mode in ("P", "L"):
        return np.array(picture, dtype=np.uint8)
    if picture.mode not in ("RGB", "RGBA"):
        message = f"has pixels of mode {picture.mode}; save labels as 8-bit indices (PNG)"
        raise DataError(Problem(path, message, "label of another mode"))
    if palette is not None and _uses_only(np.asarray(picture.convert("RGB")), palette):
        message = (
            f"holds the palette's colors ({picture.mode}) instead of class indices; read it by "
            "them with --data.label-colors voc or a file of your colors, or decode it with "
            "fcn_ext.numpy.decode_palette and save the indices as PNG"
        )
    else:
        message = (
            f"is a color picture ({picture.mode}), not class indices; save labels as palette or "
            "gray PNG whose values are the classes, or give the color of each class: "
            "--data.label-colors FILE"
        )
    raise DataError(Problem(path, message, "label in colors"))


def _uses_only(colors: np.ndarray, palette: np.ndarray) -> bool:
    """Whether every pixel of (H, W, 3) `colors` is a color of the palette."""
    try:
        decode_palette(colors, palette)
    except ValueError:
        return False
    return True


def _where(wrong: np.ndarray) -> str:
    row, column = np.argwhere(wrong)[0].tolist()
    return f"{counted(int(wrong.sum()), 'pixel')}, the first at row {row}, column {column}"
