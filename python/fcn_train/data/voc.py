"""PASCAL VOC 2011 and 2012: `JPEGImages`, `SegmentationClass` and lists in `ImageSets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.classes import CLASSES_FILE, read_class_names
from fcn_train.data.coding import LabelCoding
from fcn_train.data.dataset import Exif, SegmentationDataset
from fcn_train.data.images import IMAGE_SUFFIXES
from fcn_train.data.lists import file_names, find_list, read_ids
from fcn_train.data.problems import Problem, Problems
from fcn_train.real_paths import real_path

VOC_CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

# Where the folder of one year lies below what the archives unpack to; VOC 2011 adds TrainVal.
_YEAR_PATTERNS = ("VOC20*", "VOCdevkit/VOC20*", "TrainVal/VOCdevkit/VOC20*")


class VocSegmentation(SegmentationDataset):
    """PASCAL VOC segmentation, palette PNG labels 0..20 with 255 as void; or other data in its
    layout.

    Args:
        root: the folder of one year (`.../VOC2012`) or one above it: `VOCdevkit`, what holds it,
            or VOC 2011's `TrainVal`; of several years the newest is taken.
        split: name of a list in `ImageSets/Segmentation` ("train", "val", "seg11valid"), or the
            path of a list file. The first column names the image, with or without folder and
            ending.
        image_folder: the folder of the images, .jpg or else of another ending.
        label_folder: `SegmentationClass`, or `SegmentationClassAug` for the augmented labels.
        label_suffix: what follows an image's name in that of its label, as `_mask.png`, `.gif`.
        class_names: names in place of VOC's; default the lines of `classes.txt` beside the
            folders where there is one, else VOC's.
        palette: (256, 3) uint8, default the VOC color map.
        name: what reports call the data set; default the year's folder.
        coding, exif, strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty, repeats an image or
            names one outside the data set; always, if `classes.txt` cannot be used.
        ValueError: if names are no plain text, or if the coding does not fit the classes.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        *,
        image_folder: str = "JPEGImages",
        label_folder: str = "SegmentationClass",
        label_suffix: str = ".png",
        class_names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        name: str | None = None,
        coding: LabelCoding | None = None,
        exif: Exif = "refuse",
        strict: bool = True,
    ) -> None:
        folder = find_voc_folder(Path(root), image_folder)
        if class_names is None:
            listing = folder / CLASSES_FILE
            class_names = read_class_names(listing) if listing.is_file() else VOC_CLASS_NAMES
        if "." not in label_suffix:
            label_suffix += ".png"
        problems = Problems()
        for needed in (image_folder, label_folder):
            if not (folder / needed).is_dir():
                message = (
                    f"folder is missing; give the folder that holds {image_folder}, "
                    f"{label_folder} and ImageSets (VOCdevkit/VOC2012 in the archive)"
                )
                problems.append(Problem(folder / needed, message))
        list_file = find_list(folder / "ImageSets" / "Segmentation", split)
        # Endings may be in upper case, as cameras write them.
        present = {_lower_ending(name): name for name in sorted(file_names(folder / image_folder))}

        def image_of(image_id: str) -> Path:
            names = [f"{image_id}{suffix}" for suffix in IMAGE_SUFFIXES]
            found = next((present[name] for name in names if name in present), names[0])
            return folder / image_folder / found

        ids = read_ids(list_file, problems, image_of)
        super().__init__(
            name or folder.name or real_path(folder).name,
            ids,
            (image_of(image_id) for image_id in ids),
            (folder / label_folder / f"{image_id}{label_suffix}" for image_id in ids),
            class_names=class_names,
            palette=voc_palette() if palette is None else palette,
            source=list_file,
            coding=coding,
            exif=exif,
            problems=problems,
            strict=strict,
        )


def find_voc_folder(root: Path, image_folder: str = "JPEGImages") -> Path:
    """The folder of one year at or below `root`; `root` itself when there is none."""
    if (root / image_folder).is_dir():
        return root
    for pattern in _YEAR_PATTERNS:
        years = sorted(path for path in root.glob(pattern) if (path / image_folder).is_dir())
        if years:
            return years[-1]
    return root


def _lower_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}"
