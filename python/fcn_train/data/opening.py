"""From options to the splits of a data set."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fcn_train.data.classes import read_class_names
from fcn_train.data.coding import LabelCoding, parse_label_map, read_label_colors
from fcn_train.data.contents import check_split
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.kinds import open_dataset, takes
from fcn_train.data.labels import PictureLabels
from fcn_train.data.layouts import looks_like, which_kind
from fcn_train.data.masked import MaskedDataset
from fcn_train.data.memory import MemoryDataset
from fcn_train.data.problems import DataError, Problem, printable
from fcn_train.data.sample import is_sample, write_sample_dataset
from fcn_train.data.sources import SOURCES
from fcn_train.data_options import ReadingOptions
from fcn_train.errors import UsageError
from fcn_train.heads import can_name_head
from fcn_train.options import DataOptions
from fcn_train.words import counted_each

SAMPLE_ROOT = Path("runs/sample-data")

_OPTIONS = {
    "image_folder": "image_folder",
    "label_folder": "label_folder",
    "label_suffix": "label_suffix",
    "classes": "class_names",
    "void_label": "coding",
    "first_class": "coding",
    "label_map": "coding",
    "label_colors": "coding",
    "exif": "exif",
    "channels": "channels",
    "depth_folder": "depth_folder",
    "hha_folder": "hha_folder",
}
"""Fields of `ReadingOptions` that not every kind has, and the reader's keyword for each."""


def open_splits(
    options: DataOptions, warn: Callable[[str], None]
) -> tuple[SegmentationDataset, SegmentationDataset]:
    """The split to train on and the one to validate on, both found fit for it.

    Raises:
        UsageError, DataError: as `open_split` and `check_split`.
    """
    train_set = open_split(options, options.train_split)
    is_other = options.val_kind is not None or options.val_root is not None
    prefix = "--data.val-" if is_other else "--data."
    val_set = open_split(validation_options(options), options.val_split, prefix=prefix)
    if found := _other_classes(train_set, val_set):
        raise UsageError(f"{val_set.source}: {found}; give a --data.val-kind of the same classes")
    for labels in train_set.label_sets:
        if len(train_set.label_sets) > 1 and not can_name_head(labels.name):
            raise UsageError(
                f"--data.label-folder {options.label_folder}: each head is called as its folder, "
                f"and none can be called {labels.name!r} (letters, digits, _ and -; no name that "
                "torch has for its own, nor main); rename the folder"
            )
    compare_palettes(train_set, val_set)
    check_split(train_set, training=True, warn=warn)
    check_split(val_set, training=False, warn=warn)
    if options.memory:
        return MemoryDataset(train_set), MemoryDataset(val_set)
    return train_set, val_set


def open_split(
    options: ReadingOptions, split: str, *, strict: bool = True, prefix: str = "--data."
) -> SegmentationDataset:
    """One split of the data set that options name.

    The sample data set is written where no folder is named and it is not there yet; a folder that
    is named is never written to.

    Args:
        options: the data set, and how its labels are read.
        split: a list's name or path.
        strict: see `SegmentationDataset`.
        prefix: of the options' names on the command line, for messages.

    Raises:
        UsageError: if options are missing, have no meaning for the kind or contradict each other.
        DataError: if folders or lists are missing or unusable.
    """
    root = options.root
    if root is None:
        if options.kind != "sample":
            get = " or ".join(name for name, one in SOURCES.items() if one.kind == options.kind)
            raise UsageError(
                f"{prefix}kind {options.kind} needs {prefix}root, the folder it lies in"
                + (f"; fcn data get {get} downloads it" if get else "")
            )
        root = SAMPLE_ROOT
        if not is_sample(root):
            write_sample_dataset(root)
    elif options.kind == "sample" and not is_sample(root):
        raise UsageError(f"{root}: holds no sample data set; {_hint(root, prefix)}")
    arguments = _reader_arguments(options, prefix)
    mask = options.mask if isinstance(options, DataOptions) else "none"
    try:
        dataset = open_dataset(options.kind, root, split, strict=strict, **arguments)
        if not len(dataset) and (hint := _other_kinds(root, options.kind, prefix)):
            dataset.problems.append(Problem(root, f"{hint}; give that"))
        return dataset if mask == "none" else MaskedDataset(dataset, mask)
    except ValueError as error:
        raise UsageError(_with_prefix(error, options, prefix)) from None
    except DataError as error:
        if not root.exists():
            place = "" if root.is_absolute() else " in the folder where fcn was started"
            message = f"is missing{place}; give the data set's folder: {prefix}root"
            raise DataError(Problem(root, message)) from error
        hint = _other_kinds(root, options.kind, prefix)
        if not hint:
            raise
        path, message = error.problem.path, error.problem.message
        raise DataError(Problem(path, f"{message}; {root} {hint}")) from error


def _other_kinds(root: Path, kind: str, prefix: str) -> str:
    """What the data set looks like, if that is another kind than is given."""
    kinds = looks_like(root)
    if kinds == ["sample"] and kind == "voc":  # it has that layout
        return ""
    return f"looks like {prefix}kind {' or '.join(kinds)}" if kinds and kind not in kinds else ""


def _other_classes(train_set: SegmentationDataset, val_set: SegmentationDataset) -> str:
    """What differs between the classes of two splits; "" if nothing does."""
    numbers = _number_of_classes(train_set)
    if numbers != _number_of_classes(val_set):
        return (
            f"{val_set.name} has {_number_of_classes(val_set)} and {train_set.name}, which is "
            f"trained on, {numbers}"
        )
    for labels, others in zip(train_set.label_sets, val_set.label_sets, strict=True):
        pairs = zip(labels.class_names, others.class_names, strict=True)
        for index, (name, other) in enumerate(pairs):
            if name != other:
                return (
                    f"class {index} is {other!r} in {val_set.name} and {name!r} in "
                    f"{train_set.name}, which is trained on"
                )
    return ""


def _number_of_classes(dataset: SegmentationDataset) -> str:
    return counted_each((labels.num_classes for labels in dataset.label_sets), "class")


def validation_options(options: DataOptions) -> DataOptions:
    """The options of the data set that is scored, which may be another than is trained on."""
    root = options.val_root
    if options.val_kind is not None:
        options = of_kind(options, options.val_kind)
    return options if root is None else replace(options, root=root)


def compare_palettes(first: SegmentationDataset, second: SegmentationDataset) -> None:
    """Have labels of two splits refused if one value has two colors in them together."""
    for mine, theirs in zip(first.label_sets, second.label_sets, strict=False):
        if isinstance(mine.reader, PictureLabels) and isinstance(theirs.reader, PictureLabels):
            theirs.reader.compare_with(mine.reader)


def of_kind(options: DataOptions, kind: Any) -> DataOptions:
    """The options of another data set, without those that say how this one is read; its channels
    are those that the network sees."""
    defaults = ReadingOptions()
    unset = {name: getattr(defaults, name) for name in _OPTIONS if name != "channels"}
    cleared = replace(options, kind=kind, root=None, **unset)
    return replace(cleared, val_kind=None, val_root=None)


def _hint(root: Path, prefix: str) -> str:
    if not root.is_dir():
        command = f"fcn data sample --root {shlex.quote(str(root))}"
        return f"the folder is missing; write the sample with: {command}"
    return which_kind(root, prefix)


def _reader_arguments(options: ReadingOptions, prefix: str) -> dict[str, Any]:
    """What `open_dataset` takes beside kind, root and split."""
    defaults = ReadingOptions()
    given = [name for name in _OPTIONS if getattr(options, name) != getattr(defaults, name)]
    for name in given:
        if not takes(options.kind, _OPTIONS[name]):
            option = name.replace("_", "-")
            raise UsageError(f"{prefix}{option} has no meaning for {prefix}kind {options.kind}")
    arguments = {name: getattr(options, name) for name in given if _OPTIONS[name] == name}
    if options.classes is not None:
        arguments["class_names"] = read_class_names(options.classes)
    if any(_OPTIONS[name] == "coding" for name in given):
        arguments["coding"] = _coding(options, prefix)
    return arguments


def _coding(options: ReadingOptions, prefix: str) -> LabelCoding:
    try:
        return LabelCoding(
            void=() if options.void_label is None else (options.void_label,),
            first_class=options.first_class,
            classes=parse_label_map(options.label_map) if options.label_map else (),
            colors=_colors(options.label_colors),
            any_palette=options.label_colors == "ignore",
        )
    except ValueError as error:
        raise UsageError(_with_prefix(error, options, prefix)) from None


def _with_prefix(error: ValueError, options: ReadingOptions, prefix: str) -> str:
    """The message with the options that it names as they are given on the command line, and the
    file of colors with them: what is wrong is in there."""
    names = "|".join(name.replace("_", "-") for name in _OPTIONS if "_" in name)

    def as_given(match: re.Match[str]) -> str:
        file = f" {printable(options.label_colors)}" if match[0] == "label-colors" else ""
        return f"{prefix}{match[0]}{file}"

    return re.sub(rf"(?<![\w-])({names})(?![\w-])", as_given, str(error))


def _colors(label_colors: str) -> Any:
    if label_colors in ("", "ignore"):
        return ()
    if label_colors == "voc":
        return label_colors
    return read_label_colors(Path(label_colors))
