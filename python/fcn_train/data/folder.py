"""A plain pair of folders: images in one, labels of the same file stems in the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.classes import CLASSES_FILE, check_class_names, read_class_names
from fcn_train.data.coding import LabelCoding
from fcn_train.data.dataset import Exif, SegmentationDataset
from fcn_train.data.depth import Channels
from fcn_train.data.images import IMAGE_SUFFIXES
from fcn_train.data.label_sets import LabelSet
from fcn_train.data.labels import LABEL_SUFFIXES, PictureLabels
from fcn_train.data.lists import has_more, outside, read_list, without_suffix
from fcn_train.data.path_list import PathList
from fcn_train.data.problems import DataError, Problem, Problems, excerpt
from fcn_train.data.stems import Stems, left_out, split_suffix
from fcn_train.real_paths import real_path
from fcn_train.words import counted


class FolderSegmentation(SegmentationDataset):
    """Images and labels matched by file stem, whatever their endings.

    Args:
        root: the folder that holds both.
        split: "" for every image; else a list of stems `<root>/<split>.txt` (or the path of such
            a file), or sub-folders `<images>/<split>` and `<labels>/<split>`, or
            `<split>/<images>` and `<split>/<labels>`; the first that exists. A list may name images
            in sub-folders, such as `city/street`.
        image_folder, label_folder: names of the two folders below `root`; they may be one, if
            `label_suffix` tells the labels from the images. `labels,parts` adds a second set of
            classes, named in `<root>/classes-parts.txt`, whose labels are in `parts` under the
            names of the images, with class indices as values. There may be more.
        label_suffix: what follows an image's stem in the name of its label: `_mask` (with any
            ending), or `_mask.png`, `.gif`; "" is any ending.
        num_classes: how many classes; default as many as `class_names`.
        class_names: default the lines of `<root>/classes.txt` if that exists, else
            "class 0", "class 1", ...
        palette: (256, 3) uint8, default the VOC color map.
        channels: what a network is to see; depth and HHA are read if they are part of it.
        depth_folder, hha_folder: names of the folders of depth images (16 bits, millimeters) and
            of HHA images, which have the names of their images and end in .png.
        coding, exif, strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or list is missing, empty, repeats an image or names
            one outside the data set, or if without a list a label has no image or images lie in
            folders further down; always, if the classes are neither counted nor named, or
            `classes.txt` disagrees with `num_classes`.
        ValueError: if one of several label folders has no name or is named twice, `num_classes` is
            not in 1..255 or differs from the number of `class_names`, names are not plain text, or
            the coding does not fit the classes.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "",
        *,
        image_folder: str = "images",
        label_folder: str = "labels",
        label_suffix: str = "",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        channels: Channels = "color",
        depth_folder: str = "depth",
        hha_folder: str = "hha",
        coding: LabelCoding | None = None,
        exif: Exif = "refuse",
        strict: bool = True,
    ) -> None:
        root = Path(root)
        label_folder, *more_folders = _label_folders(label_folder)
        names = _class_names(root, num_classes, class_names)
        list_file, folder_of = _locate(root, split, image_folder)
        image_dir, label_dir = folder_of(image_folder), folder_of(label_folder)
        problems = Problems()
        stem_suffix, endings = split_suffix(label_suffix)
        images = Stems(image_dir, "images", IMAGE_SUFFIXES, "", IMAGE_SUFFIXES, problems)
        labels = Stems(label_dir, "labels", LABEL_SUFFIXES, stem_suffix, endings, problems)
        if label_suffix and real_path(image_dir) == real_path(label_dir):
            images.leave_out(labels)
        if list_file is not None:
            try:
                lines = read_list(list_file, "list of image names")
            except DataError as error:
                lines = []
                message = f'{error.problem.message}, or the split "" for every image'
                problems.append(Problem(list_file, message))
            ids = list(_listed(lines, list_file, image_dir, image_folder, images, problems))
        else:
            ids = sorted(images.here())
            if real_path(image_dir) != real_path(root):
                problems += left_out(image_dir)
            if not problems:
                for stem in sorted(labels.here().keys() - images.here().keys()):
                    message = (
                        f"label has no image {stem}.* in {image_dir}; add it or remove the label"
                    )
                    path = labels.here()[stem]
                    problems.append(Problem(path, message, "label without an image"))
        found = PathList(images.find(image_id, ".jpg") for image_id in ids)

        def beside(role: str, folder: str) -> Iterator[Path]:
            """The path of each image's depth or HHA: that of the image, in another folder."""
            start = folder_of(folder)
            if role in channels and not start.is_dir():
                message = f"folder is missing; name another with --data.{role}-folder"
                problems.append(Problem(start, message))
            return (start / path.relative_to(image_dir).with_suffix(".png") for path in found)

        more_labels = []
        for name in more_folders:
            files = Stems(folder_of(name), "labels", LABEL_SUFFIXES, "", LABEL_SUFFIXES, problems)
            paths = PathList(files.find(image_id, ".png") for image_id in ids)
            more_labels.append(_further_labels(name, root / f"classes-{name}.txt", paths))
        super().__init__(
            root.name or real_path(root).name,
            ids,
            found,
            (labels.find(image_id, ".png") for image_id in ids),
            class_names=names,
            palette=voc_palette() if palette is None else palette,
            source=list_file or image_dir,
            label_set=label_folder if more_folders else "",
            more_labels=more_labels,
            channels=channels,
            depths=beside("depth", depth_folder or "depth"),
            hhas=beside("hha", hha_folder or "hha"),
            coding=coding,
            exif=exif,
            problems=problems,
            strict=strict,
        )


def _label_folders(text: str) -> list[str]:
    """The folders of `labels,parts`."""
    names = [name.strip() for name in text.split(",")]
    if len(names) > 1 and not all(names):
        raise ValueError(f"label-folder must be folders with commas between them, got {text!r}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"label-folder must name different folders, got {name} twice")
    return names


def _further_labels(name: str, listing: Path, paths: Sequence[Path]) -> LabelSet:
    """A second set of labels, whose classes `listing` names."""
    missing = f"name the classes of the labels in {name} there, one per line"
    class_names, palette = read_class_names(listing, missing), voc_palette()
    coding = LabelCoding().fitted(len(class_names))
    reader = PictureLabels(len(class_names), coding, palette, published=listing.name)
    return LabelSet(name, class_names, palette, reader, paths)


def _class_names(
    root: Path, num_classes: int | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    if num_classes is not None and not hasattr(num_classes, "__index__"):
        raise TypeError(f"num_classes must be an integer, got {num_classes!r}")
    if num_classes is not None and not 1 <= num_classes <= 255:
        raise ValueError(f"num_classes must be in 1..255, got {num_classes}")
    if class_names is not None:
        if num_classes is not None and len(class_names) != num_classes:
            raise ValueError(
                f"class_names must hold {counted(num_classes, 'name')}, got {len(class_names)}"
            )
        return check_class_names(class_names)
    if not root.is_dir():
        raise DataError(Problem(root, "folder is missing; give the one that holds the data set"))
    listing = root / CLASSES_FILE
    if listing.is_file():
        names = read_class_names(listing)
        if num_classes is not None and len(names) != num_classes:
            message = (
                f"names {counted(len(names), 'class')} but num_classes is "
                f"{num_classes}; correct one"
            )
            raise DataError(Problem(listing, message))
        return names
    if num_classes is None:
        message = (
            "is missing; write one class name per line there, or name another such file with "
            "--data.classes (in Python, give num_classes)"
        )
        raise DataError(Problem(listing, message))
    return tuple(f"class {index}" for index in range(num_classes))


def _locate(root: Path, split: str, image_folder: str) -> tuple[Path | None, Callable[[str], Path]]:
    """The list file, if there is one, and a function from a folder's name to its path, by the rules
    of `FolderSegmentation`."""

    def below(before: str = "", after: str = "") -> Callable[[str], Path]:
        return lambda name: root / before / name / after

    if not split:
        return None, below()
    named, path = root / f"{split}.txt", Path(split)
    if named.is_file():
        return named, below()
    if path.suffix == ".txt":
        return path, below()
    if (root / image_folder / split).is_dir():
        return None, below(after=split)
    if (root / split / image_folder).is_dir():
        return None, below(before=split)
    return named, below()


def _listed(
    lines: Iterable[str],
    list_file: Path,
    image_dir: Path,
    image_folder: str,
    images: Stems,
    problems: Problems,
) -> Iterable[str]:
    """The ids that a list names; names outside the folder of images, and lines that also name a
    label, go into `problems`."""
    for line in lines:
        path = PurePosixPath(without_suffix(line.replace("\\", "/")))
        if path.is_absolute() and path.is_relative_to(image_dir.absolute()):
            path = path.relative_to(image_dir.absolute())
        if path.is_absolute() or ".." in path.parts:
            problems.append(outside(list_file, line))
            continue
        if path.is_relative_to(image_folder) and not (image_dir / path.parent).is_dir():
            path = path.relative_to(image_folder)
        if has_more(line) and not images.has(str(path)):
            message = f"has the line {excerpt(line)!r}; give the stem of one image, nothing else"
            problems.append(Problem(list_file, message, "line of more than an image"))
            continue
        yield str(path)
