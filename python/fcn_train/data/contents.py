"""Checks whether a split's labels suffice for training or scoring, and reports what they lack.

The whole data set is decoded only if necessary: almost always, a few labels spread over the split
show two classes.
"""

from __future__ import annotations

import itertools
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from fcn_train.data.coding import IGNORE_INDEX, LabelCoding
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.images import is_image_file, missing
from fcn_train.data.labels import LABEL_SUFFIXES, PictureLabels
from fcn_train.data.lists import file_names
from fcn_train.data.problems import DataError, Problem, Problems, shortened
from fcn_train.real_paths import real_path
from fcn_train.words import counted

_PAIRS = 8  # the fewest to decode before training
_NAMED = 3  # missing files to name
_MANY_LABELS = 200  # labels with fewer than two classes before a notice

_REMEDY = (
    "if 255 marks a class and not void (masks of 0 and 255 do), give --data.label-map 0=0,255=1"
)


def check_split(
    dataset: SegmentationDataset, *, training: bool, warn: Callable[[str], None]
) -> None:
    """Refuse a split that cannot be trained or scored on; warn of a single class.

    First all files are looked for, then a few pairs are decoded, then labels until two classes are
    found.

    Args:
        dataset: one split.
        training: whether it is to be trained on, which takes two classes; to score, one will do.
        warn: called with what is merely suspicious.

    Raises:
        DataError: if files are missing, a pair that was looked at cannot be used, all labels hold
            nothing but void, or, for `training`, pixels of fewer than two classes.
    """
    _refuse_missing(dataset)
    for which in range(len(dataset.label_sets)):
        _check_labels(dataset.only(which), training, warn)


def _check_labels(
    dataset: SegmentationDataset, training: bool, warn: Callable[[str], None]
) -> None:
    """``check_split`` for one set of labels, whose files exist."""
    counts = np.zeros(256, dtype=np.int64)
    for number, index in enumerate(_spread(len(dataset))):
        label = dataset[index].label if number < _PAIRS else dataset.label(index)
        counts += np.bincount(label.ravel(), minlength=256)
        if number + 1 >= _PAIRS and np.count_nonzero(counts[: dataset.num_classes]) >= 2:
            return
        if number + 1 == _MANY_LABELS < len(dataset):
            warn(
                f"{too_few_classes(dataset, counts)} (in {_MANY_LABELS} labels; looking at all "
                f"{len(dataset)})"
            )
    problem = too_few_classes(dataset, counts)
    if problem is None:
        return
    if training or not counts[: dataset.num_classes].any():
        raise DataError(problem)
    warn(str(problem))


def missing_files(dataset: SegmentationDataset) -> Iterator[tuple[int, Problem]]:
    """The missing images, labels and depth images, from one listing of each folder, each with the
    index of its pair."""
    listed: dict[str, frozenset[str]] = {}
    for index in range(len(dataset)):
        for role, path in dataset.files(index):
            folder = str(path.parent)
            if folder not in listed:
                listed[folder] = file_names(path.parent)
            if path.name not in listed[folder] and not path.is_file():
                yield index, missing(path, role)


def refuse_folder_of_files(folder: Path, dataset: SegmentationDataset, option: str) -> None:
    """Refuse a folder for results that holds images or labels: pictures of a report would be taken
    for some, or replace one.

    Args:
        folder: given by ``option``.
    """
    place = real_path(folder)
    folders = {path.parent for i in range(len(dataset)) for _, path in dataset.files(i)}
    if any(real_path(each) == place for each in folders):
        raise DataError(Problem(folder, f"holds images or labels; give another {option}"))


def too_few_classes(dataset: SegmentationDataset, counts: np.ndarray) -> Problem | None:
    """What is wrong with labels of fewer than two classes; None if they have two.

    Args:
        dataset: the split that has these labels.
        counts: (256,) pixels by class; those of `IGNORE_INDEX` are void.
    """
    present = np.flatnonzero(counts[: dataset.num_classes])
    if len(present) >= 2:
        return None
    void = counts[IGNORE_INDEX] > 0
    labels = f"{dataset.label_sets[0].name} labels".lstrip()
    if not len(present):
        message = f"{labels} hold nothing but void, so there is nothing to learn or to score"
    else:
        name = dataset.class_names[present[0]]
        message = f"{labels} hold pixels of one class alone, {name!r}" + " (and void)" * bool(void)
        if dataset.num_classes == 1:
            message += "; one class leaves nothing to tell apart: name the background, too"
    # Masks of 0 and 255 have nothing else; a map of values is of one set of labels.
    is_mask = void and not present.any() and not dataset.label_sets[0].name
    if is_mask and dataset.num_classes > 1 and _reads_255_as_void(dataset):
        message += f"; {_REMEDY}"
    elif dataset.num_classes > 1:
        message += "; give labels of two classes or more"
    return Problem(dataset.source, message, "split of too few classes")


def absent_classes(dataset: SegmentationDataset, pixels: Sequence[int] | np.ndarray) -> str:
    """A sentence on the classes without a pixel, (C,) counts; "" where every class has one."""
    names = [name for name, count in zip(dataset.class_names, pixels, strict=True) if count == 0]
    if not names:
        return ""
    return (
        f"no pixel of {len(names)} of {counted(dataset.num_classes, 'class')}: {shortened(names)}"
    )


def source_of(dataset: SegmentationDataset) -> str:
    """The list or folder of a split, and its set of labels, if that has a name."""
    name = dataset.label_sets[0].name
    return f"{dataset.source}, {name}" if name else str(dataset.source)


class ClassWatch:
    """Counts the pixels of each class in the targets of training, and warns once, after as many
    images as the split has, of classes without a pixel.

    Args:
        dataset: the split that is trained on.
        warn: called with the sentence.
        total: with several processes, turns the counts of this one into those of all.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        warn: Callable[[str], None],
        total: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._dataset = dataset
        self._warn = warn
        self._total = total
        self._left = len(dataset)
        self._counts = np.zeros(dataset.num_classes, dtype=np.int64)

    def add(self, targets: Tensor, images: int | None = None) -> None:
        """Count a batch (N, H, W) uint8 on the CPU; does nothing once all is known. ``images`` is
        the number that they stand for, if not N."""
        if self._left <= 0:
            return
        flat = targets.numpy().ravel()
        self._counts += np.bincount(flat, minlength=256)[: len(self._counts)]
        self._left -= len(targets) if images is None else images
        if self._total is None and self._counts.all():
            self._left = 0
        elif self._left <= 0:
            counts = self._counts if self._total is None else self._total(self._counts)
            lack = absent_classes(self._dataset, counts)
            if not lack:
                return
            self._warn(f"{source_of(self._dataset)}: in an epoch of training there was {lack}")


def _refuse_missing(dataset: SegmentationDataset) -> None:
    problems, hint = Problems(keep=_NAMED), NameHint(dataset)
    for index, problem in missing_files(dataset):
        problems.append(problem)
        hint.see(index, problem)
    if not problems:
        return
    if len(problems) == 1:
        raise DataError(hint.alike() or next(iter(problems)))
    parts = [
        f"{count} of {counted(len(dataset), kind.removeprefix('missing '))}"
        for kind, count in problems.counts.items()
    ]
    names = ", ".join(problem.path.name for problem in itertools.islice(problems, _NAMED))
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    message = (
        f"{' and '.join(parts)} are missing: {names}{more}; restore the files or take them off the "
        "list"
    )
    raise DataError(hint.problem() or Problem(dataset.source, message))


class NameHint:
    """Gathers missing images and labels, and points to the first that exists under another name: a
    label under one longer than its image's (`x_mask.gif`), or a file whose name differs only in
    case or in how accents are stored."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset
        self._count = 0
        self._first = 0
        self._missing: Path | None = None

    def see(self, index: int, problem: Problem) -> None:
        """Note one of the problems of a pair."""
        if self._missing is None and problem.kind.startswith("missing "):
            self._missing = problem.path
        if problem.kind == "missing label" and problem.path == self._dataset.label_path(index):
            self._first = self._first if self._count else index
            self._count += 1

    def problem(self) -> Problem | None:
        """The hint; None if there is none to give."""
        return self.alike() or self._longer()

    def alike(self) -> Problem | None:
        """The hint at a name that differs only in case or accents."""
        path = self._missing
        if path is None:
            return None
        for name in sorted(file_names(path.parent)):
            other = path.with_name(name)
            is_other = other.stem != path.stem or other.suffix.lower() == path.suffix.lower()
            is_alike = is_other and _folded(other.stem) == _folded(path.stem)
            if is_alike and is_image_file(other, LABEL_SUFFIXES):
                message = (
                    f"is missing, but there is {name}, whose name differs in case or in how "
                    "accents are stored; rename files, or correct the list"
                )
                return Problem(path, message, "file of a similar name")
        return None

    def _longer(self) -> Problem | None:
        dataset = self._dataset
        if not self._count or not isinstance(dataset.reader, PictureLabels):
            return None
        folder = dataset.label_path(self._first).parent
        stem = dataset.image_path(self._first).stem
        longer = [
            name.removeprefix(stem)
            for name in sorted(file_names(folder))
            if name.startswith(stem) and is_image_file(folder / name, LABEL_SUFFIXES)
        ]
        if len(longer) != 1:
            return None
        verb = "is" if self._count == 1 else "are"
        suffix = shlex.quote(longer[0])
        message = (
            f"{self._count} of {counted(len(dataset), 'label')} {verb} missing, but there is "
            f"{stem}{longer[0]}; if that is a label, give --data.label-suffix {suffix}"
        )
        return Problem(dataset.source, message, "labels of another suffix")


def _folded(name: str) -> str:
    """A name without what file systems may ignore: case, and how accents are stored."""
    return unicodedata.normalize("NFC", name).casefold()


def _spread(size: int) -> list[int]:
    """Every index once, neighbors far apart: lists are often sorted by class."""
    order: list[int] = np.random.default_rng(0).permutation(size).tolist()
    return order


def _reads_255_as_void(dataset: SegmentationDataset) -> bool:
    reader = dataset.reader
    if not isinstance(reader, PictureLabels):
        return False
    return replace(reader.coding, any_palette=False) == LabelCoding()
