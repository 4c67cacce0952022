"""PASCAL VOC 2011 and 2012: `JPEGImages`, `SegmentationClass` and lists in `ImageSets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.dataset import Problem, SegmentationDataset
from fcn_train.data.lists import find_list, read_ids

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
    """PASCAL VOC segmentation, palette PNG labels 0..20 with 255 as void.

    Args:
        root: the folder of one year (`.../VOC2012`) or one above it: `VOCdevkit`, what holds it,
            or VOC 2011's `TrainVal`; of several years the newest is taken.
        split: name of a list in `ImageSets/Segmentation` ("train", "val", "seg11valid"), or the
            path of a list file. The first column names the image, with or without folder and
            ending.
        label_folder: `SegmentationClass`, or `SegmentationClassAug` for the augmented labels.
        class_names: names in place of VOC's, for other data in the same layout.
        palette: (256, 3) uint8, default the VOC colour map.
        name: what reports call the data set; default the year's folder.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        *,
        label_folder: str = "SegmentationClass",
        class_names: Sequence[str] = VOC_CLASS_NAMES,
        palette: np.ndarray | None = None,
        name: str | None = None,
        strict: bool = True,
    ) -> None:
        folder = find_voc_folder(Path(root))
        problems = []
        for needed in ("JPEGImages", label_folder):
            if not (folder / needed).is_dir():
                message = (
                    "folder is missing; give the folder that holds JPEGImages, "
                    "SegmentationClass and ImageSets (VOCdevkit/VOC2012 in the archive)"
                )
                problems.append(Problem(folder / needed, message))
        lists = folder / "ImageSets" / "Segmentation"
        list_file = find_list(lists, split)
        unread: list[Problem] = []
        ids = read_ids(list_file, unread)
        problems += [_with_known_lists(problem, lists) for problem in unread]
        super().__init__(
            name or folder.name,
            ids,
            [folder / "JPEGImages" / f"{image_id}.jpg" for image_id in ids],
            [folder / label_folder / f"{image_id}.png" for image_id in ids],
            class_names=class_names,
            palette=voc_palette() if palette is None else palette,
            source=list_file,
            problems=problems,
            strict=strict,
        )


def find_voc_folder(root: Path) -> Path:
    """The folder of one year at or below `root`; `root` itself when there is none."""
    if (root / "JPEGImages").is_dir():
        return root
    for pattern in _YEAR_PATTERNS:
        years = sorted(path for path in root.glob(pattern) if (path / "JPEGImages").is_dir())
        if years:
            return years[-1]
    return root


def _with_known_lists(problem: Problem, lists: Path) -> Problem:
    known = sorted(path.stem for path in lists.glob("*.txt"))
    if not known:
        return problem
    return Problem(problem.path, f"{problem.message}, or one of the lists {', '.join(known)}")
