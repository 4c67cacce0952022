"""What every data set is: pairs of an RGB image and a label map of class indices.

Readers for particular layouts (`voc`, `camvid`, `folder`, ...) only decide which files make a pair;
how files are decoded is in `images`, `labels` and, for labels in MATLAB files, `matlab`. Loading an
example and checking a whole data set say the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from fcn_train.data.classes import check_class_names
from fcn_train.data.coding import LabelCoding
from fcn_train.data.images import read_oriented
from fcn_train.data.labels import LabelReader, PictureLabels
from fcn_train.data.problems import DataError, Problem, is_plain

T = TypeVar("T")

Exif = Literal["refuse", "stored", "upright"]
"""What labels are drawn on where EXIF says that an image is to be turned: see the data set."""

_TURNS = {
    2: "a mirroring left-right",
    3: "a turn by 180 degrees",
    4: "a mirroring up-down",
    5: "a mirroring and a turn by 90 degrees",
    6: "a turn by 90 degrees clockwise",
    7: "a mirroring and a turn by 90 degrees",
    8: "a turn by 90 degrees counterclockwise",
}


class Example(NamedTuple):
    """One image with its label map.

    image: (H, W, 3) uint8, RGB.
    label: (H, W) uint8, class indices; `IGNORE_INDEX` marks void.
    """

    image: np.ndarray
    label: np.ndarray

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same pixels."""
        if not isinstance(other, Example):
            return NotImplemented
        return np.array_equal(self.image, other.image) and np.array_equal(self.label, other.label)

    def __ne__(self, other: object) -> bool:
        return not self == other


class SegmentationDataset:
    """Pairs of image and label files, decoded one at a time.

    Args:
        name: what reports call the data set.
        ids: one name per pair, unique.
        images, labels: paths of the pairs, in the order of `ids`.
        class_names: the classes, in the order of their indices.
        palette: (256, 3) uint8 colors of the classes for pictures.
        source: the list or folder that `ids` came from, named when it is empty.
        coding: what the values of label files stand for; default: values are class indices.
        reader: decodes the label files, in place of `PictureLabels` of this coding.
        exif: what labels are drawn on where an image's EXIF tag turns it: the pixels as "stored",
            or "upright" as the tag says (the image is turned then); "refuse" takes the pixels as
            stored where the sizes of image and label show that these match, and names the image
            where they cannot (turns by 180 degrees, mirrorings, squares).
        problems: what the reader found wrong with the lists and folders themselves.
        strict: raise the first problem. Without it the data set is as complete as it can be and
            keeps them in `problems`, for `check_dataset` to report together.

    Raises:
        DataError: with `strict`, on the first of `problems`, an empty list, or a repeated id.
        ValueError: if names of classes are no plain text or occur twice, or the coding names a
            class that is not there.
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
        coding: LabelCoding | None = None,
        reader: LabelReader | None = None,
        exif: Exif = "stored",
        problems: Iterable[Problem] = (),
        strict: bool = True,
    ) -> None:
        self.name = name
        self.ids = list(ids)
        self.class_names = check_class_names(class_names)
        coding = (coding or LabelCoding()).fitted(self.num_classes)
        colors = coding.palette()
        self.palette = palette if colors is None else colors
        self.reader = reader or PictureLabels(self.num_classes, coding, palette)
        self.source = source
        self._images = list(images)
        self._labels = list(labels)
        self._exif = exif
        self.problems = list(problems)
        if not self.problems and not self.ids:
            self.problems.append(Problem(source, "names no image; give another list or folder"))
        self.problems += _bad_names(self.ids, source)
        if strict and self.problems:
            raise DataError(self.problems[0])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """Decode one pair.

        Raises:
            DataError: on the first thing wrong with either file.
        """
        example, problems = self.examine(index)
        if example is None:
            raise DataError(problems[0])
        return example

    def label(self, index: int) -> np.ndarray:
        """Decode the label of a pair alone, (H, W) uint8.

        Raises:
            DataError: on the first thing wrong with its file.
        """
        path = self.label_path(index)
        return self.reader.classes(self.reader.decode(path), path)

    def image_path(self, index: int) -> Path:
        return self._images[index]

    def label_path(self, index: int) -> Path:
        return self._labels[index]

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        """Decode one pair and tell everything wrong with it; the example is None if anything is."""
        problems: list[Problem] = []
        path = self.label_path(index)
        upright = self._exif == "upright"
        oriented = _attempt(
            problems, lambda: read_oriented(self.image_path(index), upright=upright)
        )
        values = _attempt(problems, lambda: self.reader.decode(path))
        image = None
        if oriented is not None:
            image, orientation = oriented
            if values is not None and self._exif == "refuse":
                problems += self._turn_problems(index, image, orientation)
            if values is not None and image.shape[:2] != values.shape:
                problems.append(self._size_problem(index, image, values))
        label = None
        if values is not None:
            found = values
            label = _attempt(problems, lambda: self.reader.classes(found, path))
        if problems or image is None or label is None:
            return None, problems
        return Example(image, label), []

    def _turn_problems(self, index: int, image: np.ndarray, orientation: int) -> list[Problem]:
        height, width = image.shape[:2]
        told_by_size = orientation >= 5 and height != width
        if orientation == 1 or told_by_size:
            return []
        message = (
            f"has an EXIF tag that asks for {_TURNS[orientation]}, and its size does not tell "
            "whether its label is drawn on the stored or the turned pixels; give --data.exif "
            "stored or upright, or turn the file and remove the tag"
        )
        return [Problem(self.image_path(index), message, "image that EXIF turns")]

    def _size_problem(self, index: int, image: np.ndarray, values: np.ndarray) -> Problem:
        (height, width), (label_height, label_width) = image.shape[:2], values.shape
        message = (
            f"is {label_width} x {label_height} pixels but its image "
            f"{self.image_path(index)} is {width} x {height}; give both the same size"
        )
        if (label_width, label_height) == (height, width):
            message += (
                " (sides swapped: if it is drawn on the image as EXIF turns it, give --data.exif "
                "upright)"
            )
        return Problem(self.label_path(index), message, "label of another size than its image")


def _bad_names(ids: Sequence[str], source: Path) -> list[Problem]:
    problems = [
        Problem(source, f"names {name!r} {times} times; keep one", "repeated image")
        for name, times in Counter(ids).items()
        if times > 1
    ]
    for name in ids:
        if not is_plain(name):
            message = f"names an image {name!r}, which is no plain UTF-8 text; rename the file"
            problems.append(Problem(source, message, "image whose name is no plain text"))
    return problems


def _attempt(problems: list[Problem], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DataError as error:
        problems.append(error.problem)
        return None
