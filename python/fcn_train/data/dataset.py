"""What every data set is: pairs of an RGB image and a label map of class indices.

Readers for particular layouts (`voc`, `camvid`, `folder`, ...) only decide which files make a pair;
decoding and all that can be wrong with a file is here (for labels in MATLAB files in `matlab`), so
that loading an example and checking a whole data set say the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fcn_ext.numpy import decode_palette

IGNORE_INDEX = 255
"""Label of pixels that belong to no class (void): never trained on, never scored."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
"""File endings taken for images, compared in lower case."""


class Example(NamedTuple):
    """One image with its label map.

    image: (H, W, 3) uint8, RGB.
    label: (H, W) uint8, class indices; `IGNORE_INDEX` marks void.
    """

    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set: the file or folder, and what to do about it."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class DataError(Exception):
    """A data set cannot be used as it is; the text names the file and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


class SegmentationDataset:
    """Pairs of image and label files, decoded one at a time.

    Args:
        name: what reports call the data set.
        ids: one name a pair, unique.
        images, labels: paths of the pairs, in the order of `ids`.
        class_names: the classes, in the order of their indices.
        palette: (256, 3) uint8 colours of the classes for pictures.
        source: the list or folder that `ids` came from, named when it is empty.
        label_map: (256,) uint8 table from the values in the files to class indices, for data sets
            that do not mark void by 255; default: values are class indices.
        problems: what the reader found wrong with the lists and folders themselves.
        strict: raise the first problem. Without it the data set is as complete as it can be and
            keeps them in `problems`, for `check_dataset` to report together.

    Raises:
        DataError: with `strict`, on the first of `problems`, an empty list, or a repeated id.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        images: Sequence[Path],
        labels: Sequence[Path],
        *,
        class_names: Sequence[str],
        palette: np.ndarray,
        source: Path,
        label_map: np.ndarray | None = None,
        problems: Iterable[Problem] = (),
        strict: bool = True,
    ) -> None:
        self.name = name
        self.ids = list(ids)
        self.class_names = tuple(class_names)
        self.palette = palette
        self._images = list(images)
        self._labels = list(labels)
        self.source = source
        self._label_map = label_map
        self._is_out_of_range = np.ones(256, dtype=bool)
        self._is_out_of_range[: self.num_classes] = False
        self._is_out_of_range[IGNORE_INDEX] = False
        self.problems = list(problems)
        if not self.problems and not self.ids:
            self.problems.append(Problem(source, "names no image; give another list or folder"))
        for repeated, times in Counter(self.ids).items():
            if times > 1:
                message = f"names {repeated!r} {times} times; keep one"
                self.problems.append(Problem(source, message))
        if strict and self.problems:
            raise DataError(self.problems[0])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def label_meaning(self) -> list[tuple[int, int]]:
        """Values of label files that do not stand for the class of their own number, each with
        the class that it stands for (`IGNORE_INDEX` is void)."""
        if self._label_map is None:
            return []
        return [(v, c) for v, c in enumerate(self._label_map.tolist()) if v != c]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """Decode one pair.

        Raises:
            DataError: on the first thing wrong with either file.
        """
        image = read_image(self.image_path(index))
        label = self._read_label(index)
        problems = self._pair_problems(index, image, label)
        if problems:
            raise DataError(problems[0])
        return Example(image, label)

    def image_path(self, index: int) -> Path:
        return self._images[index]

    def label_path(self, index: int) -> Path:
        return self._labels[index]

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        """Decode one pair and tell everything wrong with it; the example is None if anything is."""
        problems: list[Problem] = []
        image = label = None
        try:
            image = read_image(self.image_path(index))
        except DataError as error:
            problems.append(error.problem)
        try:
            label = self._read_label(index)
        except DataError as error:
            problems.append(error.problem)
        problems += self._pair_problems(index, image, label)
        if problems or image is None or label is None:
            return None, problems
        return Example(image, label), []

    def _read_label(self, index: int) -> np.ndarray:
        label = read_label(self.label_path(index), self.palette)
        return label if self._label_map is None else self._label_map[label]

    def _pair_problems(
        self, index: int, image: np.ndarray | None, label: np.ndarray | None
    ) -> list[Problem]:
        problems: list[Problem] = []
        if label is None:
            return problems
        path = self.label_path(index)
        if image is not None and image.shape[:2] != label.shape:
            (height, width), (label_height, label_width) = image.shape[:2], label.shape
            message = (
                f"is {label_width} x {label_height} pixels but its image "
                f"{self.image_path(index)} is {width} x {height}; give both the same size"
            )
            if (label_width, label_height) == (height, width):
                message += " (sides swapped: the image may rely on an EXIF rotation; apply it)"
            problems.append(Problem(path, message))
        wrong = self._is_out_of_range[label]
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            values = np.unique(label[wrong]).tolist()
            message = (
                f"has label values outside 0..{self.num_classes - 1} and {IGNORE_INDEX} (void): "
                f"{shortened(values)} in {int(wrong.sum())} pixels, the first at row {row}, "
                f"column {column}; correct the file or the number of classes"
            )
            problems.append(Problem(path, message))
        return problems


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """Decode an image of any 8-bit mode to (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        upright: turn it as its EXIF tag says. Not for images with labels: those match the pixels
            as they are stored.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, holds more pixels than
            Pillow's limit, or has more than 8 bits a channel.
    """
    picture = _decoded(path, "image")
    if picture.mode.startswith(("I", "F")):
        message = f"has pixels of mode {picture.mode}; save it with 8 bits a channel"
        raise DataError(Problem(path, message))
    if upright:
        picture = ImageOps.exif_transpose(picture)
    return np.array(picture.convert("RGB"))


def read_label(path: Path, palette: np.ndarray | None = None) -> np.ndarray:
    """Decode a label map to (H, W) uint8, palette PNG as indices.

    Args:
        path: a file with one channel of 8 bits, with or without a palette.
        palette: (256, 3) uint8; tells a label saved in these colours from any other RGB picture.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, is a JPEG, or holds
            colours instead of indices.
    """
    picture = _decoded(path, "label")
    if picture.format == "JPEG":
        message = "is a JPEG, whose compression alters label values; save labels as PNG"
        raise DataError(Problem(path, message))
    if picture.mode in ("P", "L", "1"):
        return np.array(picture, dtype=np.uint8)
    if picture.mode not in ("RGB", "RGBA"):
        message = f"has pixels of mode {picture.mode}; save labels as 8-bit indices (PNG)"
        raise DataError(Problem(path, message))
    if palette is not None and _uses_only(np.asarray(picture.convert("RGB")), palette):
        message = (
            f"holds the palette's colours ({picture.mode}) instead of class indices; decode "
            "it with fcn_ext.numpy.decode_palette and save the indices as PNG"
        )
    else:
        message = (
            f"is a colour picture ({picture.mode}), not class indices; save labels as "
            "palette or grey PNG whose values are the classes"
        )
    raise DataError(Problem(path, message))


def _decoded(path: Path, kind: str) -> Image.Image:
    """Open a picture and decode all of it; whatever a decoder raises becomes a `DataError`."""
    if not path.is_file():
        message = f"{kind} is missing; restore the file or take it off the list"
        raise DataError(Problem(path, message))
    try:
        with path.open("rb") as stream:
            picture = Image.open(stream)
            picture.load()
    except Image.DecompressionBombError as error:
        message = f"{kind} has too many pixels to be opened safely ({error}); shrink or remove it"
        raise DataError(Problem(path, message)) from error
    except Exception as error:
        message = (
            f"{kind} cannot be decoded ({reason(error)}); replace the file or take it off the list"
        )
        raise DataError(Problem(path, message)) from error
    return picture


def _uses_only(colours: np.ndarray, palette: np.ndarray) -> bool:
    """Whether every pixel of (H, W, 3) `colours` is a colour of the palette."""
    try:
        decode_palette(colours, palette)
    except ValueError:
        return False
    return True


def reason(error: BaseException) -> str:
    """An exception's own words, without the file that the message around them names already."""
    if isinstance(error, UnidentifiedImageError):
        return "no known picture format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def shortened(values: Sequence[int], limit: int = 8) -> str:
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
