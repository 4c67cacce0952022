"""The base of all data sets: pairs of an RGB image and a label map of class indices, or several.

Readers for particular layouts (`voc`, `camvid`, `folder`, ...) only decide which files make a pair;
how files are decoded is in `images`, `labels` and, for labels in MATLAB files, `matlab`. Loading an
example and checking a whole data set report the same problems.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from fcn_train.data.classes import check_class_names
from fcn_train.data.coding import LabelCoding
from fcn_train.data.depth import Channels, read_depth, read_hha
from fcn_train.data.example import Example
from fcn_train.data.images import image_size, read_oriented
from fcn_train.data.label_sets import LabelSet
from fcn_train.data.labels import LABEL_SUFFIXES, LabelReader, PictureLabels
from fcn_train.data.path_list import PathList
from fcn_train.data.problems import DataError, Problem, Problems, excerpt, is_plain, other_size

T = TypeVar("T")

Exif = Literal["refuse", "stored", "upright"]
"""The pixels that labels are drawn on, for images with an EXIF orientation; see the data set."""

_TURNS = {
    2: "a mirroring left-right",
    3: "a turn by 180 degrees",
    4: "a mirroring up-down",
    5: "a mirroring and a turn by 90 degrees",
    6: "a turn by 90 degrees clockwise",
    7: "a mirroring and a turn by 90 degrees",
    8: "a turn by 90 degrees counterclockwise",
}


class SegmentationDataset:
    """Pairs of image and label files, decoded one at a time.

    Args:
        name: that of the data set in reports.
        ids: one name per pair, unique.
        images, labels: paths of the pairs, in the order of `ids`.
        class_names: the classes, in the order of their indices.
        palette: (256, 3) uint8 colors of the classes in pictures.
        source: the list or folder that `ids` came from, named when it is empty.
        coding: the meaning of the values in label files; by default they are class indices.
        reader: decodes the label files, in place of `PictureLabels` of this coding.
        exif: the pixels that labels are drawn on if an image's EXIF tag rotates or mirrors it:
            those "stored", or those "upright" as the tag says (the image is then rotated); "refuse"
            takes the stored pixels if the sizes of image and label show that they match, and
            reports the image if the sizes cannot tell (rotations by 180 degrees, mirrorings,
            squares).
        label_set: name of this set of classes, if there are several.
        more_labels: further sets of classes, with their labels of the same images.
        channels: what a network is to see of an image; depth and HHA are read if they are part of
            it.
        depths, hhas: paths of the depth and HHA images, for `channels` that have them.
        problems: what the reader found wrong with the lists and folders.
        strict: raise the first problem. Without it, the data set is as complete as possible and
            keeps them in `problems`, the first 1000 of each kind, for `check_dataset` to report
            together.

    Attributes:
        label_sets: all sets of classes. Attributes such as `class_names` are those of the first;
            `only` gives the data set with one of the others alone.

    Raises:
        DataError: with `strict`, on the first of `problems`, an empty list, a repeated id, or one
            file for an image and its label.
        TypeError: if `coding` is not a LabelCoding, or `class_names` is a single string.
        ValueError: if names of classes are not plain text or occur twice, the coding names a class
            that does not exist, or `exif` or `channels` is unknown.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        images: Iterable[Path],
        labels: Iterable[Path],
        *,
        class_names: Sequence[str],
        palette: np.ndarray,
        source: Path,
        coding: LabelCoding | None = None,
        reader: LabelReader | None = None,
        exif: Exif = "stored",
        label_set: str = "",
        more_labels: Sequence[LabelSet] = (),
        channels: Channels = "color",
        depths: Iterable[Path] = (),
        hhas: Iterable[Path] = (),
        problems: Iterable[Problem] = (),
        strict: bool = True,
    ) -> None:
        for argument, value, known in (
            ("exif", exif, get_args(Exif)),
            ("channels", channels, get_args(Channels)),
        ):
            if value not in known:
                raise ValueError(f"{argument} must be one of {', '.join(known)}, got {value!r}")
        if coding is not None and not isinstance(coding, LabelCoding):
            raise TypeError(f"coding must be a LabelCoding, got {coding!r}")
        self.name = name
        self.ids = list(ids)
        class_names = check_class_names(class_names)
        coding = (coding or LabelCoding()).fitted(len(class_names))
        colors = coding.palette()
        reader = reader or PictureLabels(len(class_names), coding, palette)
        colors = palette if colors is None else colors
        first = LabelSet(label_set, class_names, colors, reader, _path_list(labels))
        self.label_sets: tuple[LabelSet, ...] = (first, *more_labels)
        self.source = source
        self.channels = channels
        self._images = _path_list(images)
        self._depths = _path_list(depths if "depth" in channels else ())
        self._hhas = _path_list(hhas if "hha" in channels else ())
        self._exif = exif
        self.problems = Problems(problems)
        if not self.problems and not self.ids:
            self.problems.append(Problem(source, "names no image; give another list or folder"))
        self.problems += _bad_names(self.ids, source)
        self.problems += self._doubled()
        if strict and self.problems:
            raise DataError(next(iter(self.problems)))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.label_sets[0].class_names

    @property
    def num_classes(self) -> int:
        return self.label_sets[0].num_classes

    @property
    def palette(self) -> np.ndarray:
        return self.label_sets[0].palette

    @property
    def reader(self) -> LabelReader:
        return self.label_sets[0].reader

    def __getstate__(self) -> dict[str, Any]:
        """The state that is copied to another process, or into a `MemoryDataset`."""
        return dict(vars(self))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """Decode one pair.

        Raises:
            TypeError, IndexError: ``index`` is no integer, or beyond the pairs.
            DataError: on the first thing wrong with either file.
        """
        example, problems = self.examine(operator.index(index))
        if example is None:
            raise DataError(problems[0])
        return example

    def only(self, which: int) -> SegmentationDataset:
        """The same images with one of the sets of classes alone."""
        view = copy.copy(self)
        view.label_sets = (self.label_sets[which],)
        return view

    def label(self, index: int) -> np.ndarray:
        """Decode the label of a pair alone, (H, W) uint8.

        Raises:
            DataError: on the first thing wrong with its file.
        """
        labels = self.label_sets[0]
        return labels.reader.classes(self._read_values(labels, index), labels.paths[index])

    def image_path(self, index: int) -> Path:
        return self._images[index]

    def label_path(self, index: int) -> Path:
        return self.label_sets[0].paths[index]

    def depth_path(self, index: int) -> Path:
        """The path of the depth of a pair; only for data sets whose `channels` have depth."""
        return self._depths[index]

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, without decoding it.

        Raises:
            DataError: if they cannot be read from the file.
        """
        return image_size(self.image_path(index))

    def files(self, index: int) -> Iterator[tuple[str, Path]]:
        """The role of each file of a pair, "image", "label", ..., and its path."""
        yield "image", self.image_path(index)
        for labels in self.label_sets:
            yield "label", labels.paths[index]
        for role, paths in (("depth image", self._depths), ("HHA image", self._hhas)):
            if paths:
                yield role, paths[index]

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        """Decode one pair and find everything wrong with it; the example is None if anything is."""
        problems: list[Problem] = []
        oriented = _attempt(problems, partial(self._read_image, index))
        maps = [
            _attempt(problems, partial(self._read_values, labels, index))
            for labels in self.label_sets
        ]
        depth = _attempt(problems, partial(self._read_depth, index)) if self._depths else None
        hha = _attempt(problems, partial(self._read_hha, index)) if self._hhas else None
        if oriented is not None:
            image, orientation = oriented
            if maps[0] is not None and self._exif == "refuse":
                problems += self._turn_problems(index, image, orientation)
            others = [*maps, *[depth] * bool(self._depths), *[hha] * bool(self._hhas)]
            for (role, path), values in zip([*self.files(index)][1:], others, strict=True):
                if values is not None and image.shape[:2] != values.shape[:2]:
                    problems.append(
                        other_size(role, path, values.shape, self.image_path(index), image.shape)
                    )
        found = [
            None
            if values is None
            else _attempt(problems, partial(labels.reader.classes, values, labels.paths[index]))
            for labels, values in zip(self.label_sets, maps, strict=True)
        ]
        whole = [label for label in found if label is not None]
        if problems or oriented is None or len(whole) < len(found):
            return None, problems
        return Example(oriented[0], whole[0], tuple(whole[1:]), depth, hha), []

    def _read_image(self, index: int) -> tuple[np.ndarray, int]:
        return read_oriented(self.image_path(index), upright=self._exif == "upright")

    def _read_values(self, labels: LabelSet, index: int) -> np.ndarray:
        return labels.reader.decode(labels.paths[index])

    def _read_depth(self, index: int) -> np.ndarray:
        return read_depth(self._depths[index])

    def _read_hha(self, index: int) -> np.ndarray:
        return read_hha(self._hhas[index])

    def _doubled(self) -> list[Problem]:
        """The first file that has two roles, for example because two folders are the same."""
        lists = [self._images, *(labels.paths for labels in self.label_sets)]
        lists += filter(None, (self._depths, self._hhas))
        folders = Counter(folder for paths in map(_path_list, lists) for folder in paths.folders)
        is_shared = any(times > 1 for times in folders.values())
        for index in range(len(self)) if is_shared else ():
            known: dict[Path, str] = {}
            for role, path in self.files(index):
                other = known.setdefault(path, role)
                # Two sets may read one label; a file that is not a picture may hold many.
                if other != role and path.suffix.lower() in LABEL_SUFFIXES:
                    message = f"is given as {other} and as {role}; give a file for each"
                    return [Problem(path, message, "file of two meanings")]
        return []

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


def _path_list(paths: Iterable[Path]) -> PathList:
    return paths if isinstance(paths, PathList) else PathList(paths)


def _bad_names(ids: Sequence[str], source: Path) -> Iterator[Problem]:
    for name, times in Counter(ids).items() if len(set(ids)) < len(ids) else ():
        if times > 1:
            message = f"names {excerpt(name)!r} {times} times; keep one"
            yield Problem(source, message, "repeated image")
    for name in ids:
        if not is_plain(name):
            message = (
                f"names an image {excerpt(name)!r}, which is no plain UTF-8 text; rename the file"
            )
            yield Problem(source, message, "image whose name is no plain text")


def _attempt(problems: list[Problem], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DataError as error:
        problems.append(error.problem)
        return None
