"""A plain pair of folders: images in one, labels of the same file stems in the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.dataset import IMAGE_SUFFIXES, DataError, Problem, SegmentationDataset
from fcn_train.data.lists import read_lines, without_suffix


class FolderSegmentation(SegmentationDataset):
    """Images and labels matched by file stem, whatever their endings.

    Args:
        root: the folder that holds both.
        split: "" for every image; else a list of stems `<root>/<split>.txt` (or the path of such
            a file), or sub-folders `<images>/<split>` and `<labels>/<split>`, or
            `<split>/<images>` and `<split>/<labels>`; the first that exists.
        image_folder, label_folder: names of the two folders below `root`.
        num_classes: how many classes; default as many as `class_names`.
        class_names: default the lines of `<root>/classes.txt` where there is one, else
            "class 0", "class 1", ...
        palette: (256, 3) uint8, default the VOC colour map.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or list is missing, empty or repeats an image, or if
            without a list a label has no image; always, if the classes are neither counted nor
            named, or `classes.txt` disagrees with `num_classes`.
        ValueError: if `num_classes` is not in 1..255 or differs from the number of `class_names`.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "",
        *,
        image_folder: str = "images",
        label_folder: str = "labels",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        strict: bool = True,
    ) -> None:
        root = Path(root)
        names = _class_names(root, num_classes, class_names)
        list_file, image_dir, label_dir = _locate(root, split, image_folder, label_folder)
        problems: list[Problem] = []
        images = _by_stem(image_dir, "images", problems)
        labels = _by_stem(label_dir, "labels", problems)
        ids = sorted(images)
        if list_file is not None:
            try:
                lines = read_lines(list_file, "list of image names")
                ids = [without_suffix(line) for line in lines]
            except DataError as error:
                ids = []
                message = f'{error.problem.message}, or the split "" for every image'
                problems.append(Problem(list_file, message))
        elif not problems:
            for stem in sorted(labels.keys() - images.keys()):
                message = f"label has no image {stem}.* in {image_dir}; add it or remove the label"
                problems.append(Problem(labels[stem], message))
        super().__init__(
            root.name,
            ids,
            [images.get(image_id, image_dir / f"{image_id}.jpg") for image_id in ids],
            [labels.get(image_id, label_dir / f"{image_id}.png") for image_id in ids],
            class_names=names,
            palette=voc_palette() if palette is None else palette,
            source=list_file or image_dir,
            problems=problems,
            strict=strict,
        )


def _class_names(
    root: Path, num_classes: int | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    if num_classes is not None and not 1 <= num_classes <= 255:
        raise ValueError(f"num_classes must be in 1..255, got {num_classes}")
    if class_names is not None:
        expected = num_classes or len(class_names)
        if len(class_names) != expected or not 1 <= expected <= 255:
            rule = f"{num_classes}" if num_classes else "1..255"
            raise ValueError(f"class_names must hold {rule} names, got {len(class_names)}")
        return tuple(class_names)
    if not root.is_dir():
        raise DataError(Problem(root, "folder is missing; give the one that holds the data set"))
    listing = root / "classes.txt"
    if listing.is_file():
        names = read_lines(listing, "list of class names")
        expected = num_classes or len(names)
        if len(names) != expected or not 1 <= expected <= 255:
            rule = f"num_classes is {num_classes}" if num_classes else "1 to 255 are possible"
            message = f"names {len(names)} classes but {rule}; correct one of them"
            raise DataError(Problem(listing, message))
        return tuple(names)
    if num_classes is None:
        message = "is missing; write one class name a line, or give num_classes"
        raise DataError(Problem(listing, message))
    return tuple(f"class {index}" for index in range(num_classes))


def _locate(
    root: Path, split: str, image_folder: str, label_folder: str
) -> tuple[Path | None, Path, Path]:
    """The list file, if there is one, and the two folders, by the rules of the class."""
    image_dir, label_dir = root / image_folder, root / label_folder
    if not split:
        return None, image_dir, label_dir
    named, path = root / f"{split}.txt", Path(split)
    if named.is_file():
        return named, image_dir, label_dir
    if path.suffix == ".txt":
        return path, image_dir, label_dir
    if (image_dir / split).is_dir():
        return None, image_dir / split, label_dir / split
    if (root / split / image_folder).is_dir():
        return None, root / split / image_folder, root / split / label_folder
    return named, image_dir, label_dir


def _by_stem(folder: Path, kind: str, problems: list[Problem]) -> dict[str, Path]:
    """Picture files by stem; a missing folder and stems that occur twice go into `problems`."""
    if not folder.is_dir():
        problems.append(Problem(folder, f"folder of {kind} is missing; create it or name another"))
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            message = f"has the same stem as {files[path.stem].name}; keep one of the two"
            problems.append(Problem(path, message))
            continue
        files[path.stem] = path
    return files
