"""PASCAL-Context: all of VOC 2010's images labeled, 459 classes merged to 59, or 33, and
background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcn_train.data.lists import find_list, read_ids, read_lines
from fcn_train.data.matlab import MatlabSegmentation
from fcn_train.data.problems import DataError, Problem, Problems
from fcn_train.data.voc import VOC_CLASS_NAMES, find_voc_folder

__all__ = [
    "PASCAL_CONTEXT_33_CLASS_NAMES",
    "PASCAL_CONTEXT_CLASS_NAMES",
    "PascalContext",
    "PascalContext33",
]

PASCAL_CONTEXT_CLASS_NAMES = (
    *VOC_CLASS_NAMES,
    *("bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "clothes", "computer"),
    *("cup", "door", "fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light"),
    *("mountain", "mouse", "curtain", "platform", "sign", "plate", "road", "rock", "shelves"),
    *("sidewalk", "sky", "snow", "bedcloth", "track", "tree", "truck", "wall", "water", "window"),
    "wood",
)

PASCAL_CONTEXT_33_CLASS_NAMES = (
    *VOC_CLASS_NAMES,
    *("sky", "grass", "ground", "road", "building", "tree", "water", "mountain", "wall", "floor"),
    *("track", "keyboard", "ceiling"),
)
"""Background, VOC's twenty objects and thirteen of their surroundings."""

_HIGHEST = 459  # of the values of LabelMap

# What the list of them calls three of the 59.
_OTHER_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class PascalContext(MatlabSegmentation):
    """PASCAL-Context (Mottaghi et al., 2014), its 59 most frequent classes; the others are class 0,
    background, as in the reference implementation.

    `trainval/*.mat` (`LabelMap`, 1..459) and `labels.txt`, which names these, as the archive has
    them; images and lists (`ImageSets/Main`) are VOC 2010's.

    Args:
        root: the folder of `trainval` and `labels.txt`; VOC 2010 lies in it, too, as `VOC2010` or
            `VOCdevkit/VOC2010`, or its folders do.
        split: name of a list in `ImageSets/Main` ("train", "val"), or the path of a list file.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or a list is missing, empty or repeats an image;
            always, if `labels.txt` cannot be read or lacks the name of a class.
    """

    names: tuple[str, ...] = PASCAL_CONTEXT_CLASS_NAMES

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        folder = Path(root)
        classes = _classes(folder / "labels.txt", self.names)
        images = _voc_2010(folder)
        problems = Problems()
        if not (images / "JPEGImages").is_dir():
            message = "folder is missing; unpack VOC 2010 into the folder of trainval"
            problems.append(Problem(images / "JPEGImages", message))
        if not (folder / "trainval").is_dir():
            message = "folder is missing; give the folder that holds trainval and labels.txt"
            problems.append(Problem(folder / "trainval", message))
        list_file = find_list(images / "ImageSets" / "Main", split)

        def image_of(image_id: str) -> Path:
            return images / "JPEGImages" / f"{image_id}.jpg"

        ids = read_ids(list_file, problems, image_of)
        super().__init__(
            "PASCAL-Context",
            ids,
            (image_of(image_id) for image_id in ids),
            (folder / "trainval" / f"{image_id}.mat" for image_id in ids),
            variable="LabelMap",
            classes=classes,
            class_names=self.names,
            source=list_file,
            problems=problems,
            strict=strict,
        )


class PascalContext33(PascalContext):
    """The same with the 33 classes that the paper's Table 6 scores beside the 59."""

    names = PASCAL_CONTEXT_33_CLASS_NAMES


def _voc_2010(folder: Path) -> Path:
    # Lists of later years name images that were not labeled.
    for year in (folder / "VOC2010", folder / "VOCdevkit" / "VOC2010"):
        if (year / "JPEGImages").is_dir():
            return year
    return find_voc_folder(folder)


def listed_values() -> list[str]:
    """Lines of a `labels.txt` in which value 1 is class 1 of the 59, and so on."""
    return [
        f"{index}: {_OTHER_NAMES.get(name, name)}"
        for index, name in enumerate(PASCAL_CONTEXT_CLASS_NAMES)
        if index
    ]


def _classes(listing: Path, names: Sequence[str]) -> dict[int, int]:
    """The class of each value of `LabelMap`, from the lines `number: name` of `listing`; values
    whose names are not in `names` are background."""
    values: dict[str, int] = {}
    missing = "give the folder that holds trainval and labels.txt"
    for line in read_lines(listing, "list of the values of LabelMap", missing):
        number, _, name = (part.strip() for part in line.partition(":"))
        if not (number.isdecimal() and 1 <= int(number) <= _HIGHEST and name):
            message = (
                f"has a line that is not `1..{_HIGHEST}: name`: {line!r}; give the published list"
            )
            raise DataError(Problem(listing, message))
        if name in values or int(number) in values.values():
            message = f"names a value or a class twice: {line!r}; give the published list"
            raise DataError(Problem(listing, message))
        values[name] = int(number)
    classes = dict.fromkeys((0, *values.values()), 0)
    for index, name in enumerate(names[1:], start=1):
        name = _OTHER_NAMES.get(name, name)
        if name not in values:
            raise DataError(Problem(listing, f"does not name {name!r}; give the published list"))
        classes[values[name]] = index
    return classes
