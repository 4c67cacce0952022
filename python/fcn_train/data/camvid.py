"""CamVid in the layout of the SegNet tutorial: 11 classes, 480 x 360, void is 11."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn_train.data.coding import LabelCoding
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.labels import PictureLabels
from fcn_train.data.lists import find_list, outside, read_list
from fcn_train.data.path_list import PathList
from fcn_train.data.problems import DataError, Problem, Problems
from fcn_train.words import counted

CAMVID_CLASS_NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
CAMVID_VOID = 11
"""The value by which CamVid's files mark void; loaded labels have `IGNORE_INDEX` instead."""

_COLORS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)


class CamVid(SegmentationDataset):
    """CamVid: `train.txt`, `val.txt`, `test.txt` beside `train/`, `trainannot/` and so on.

    Args:
        root: the folder of the lists, or one that holds it as `CamVid` or `SegNet/CamVid`.
        split: name of a list beside the folders, or the path of a list file. Its two columns name
            image and label; of each, the last folder and the file name count, so that the
            published lists work wherever the data lies.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if the list is missing, empty, malformed or repeats an image.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        folder = find_camvid_folder(Path(root))
        list_file = find_list(folder, split)
        problems = Problems()
        lines: list[str] = []
        try:
            lines = read_list(list_file, "list of images and labels")
        except DataError as error:
            problems.append(error.problem)
        images, labels = PathList(), PathList()
        for number, line in enumerate(lines, 1):
            columns = line.replace("\\", "/").split()
            if len(columns) != 2:
                message = (
                    f"line {number} has {counted(len(columns), 'column')}; write "
                    "image and label paths"
                )
                problems.append(Problem(list_file, message, "line of other columns"))
                continue
            if ".." in Path(columns[0]).parts + Path(columns[1]).parts:
                problems.append(outside(list_file, line))
                continue
            image, label = (folder.joinpath(*Path(column).parts[-2:]) for column in columns)
            images.append(image)
            labels.append(label)
        super().__init__(
            "CamVid",
            [image.stem for image in images],
            images,
            labels,
            class_names=CAMVID_CLASS_NAMES,
            palette=camvid_palette(),
            source=list_file,
            reader=PictureLabels(
                len(CAMVID_CLASS_NAMES),
                LabelCoding(void=(CAMVID_VOID,)),
                camvid_palette(),
                published="CamVid",
            ),
            problems=problems,
            strict=strict,
        )


def camvid_palette() -> np.ndarray:
    """The colors CamVid is usually shown in, (256, 3) uint8; void and unused entries black."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(_COLORS)] = _COLORS
    return palette


def find_camvid_folder(root: Path) -> Path:
    """The folder of the lists at or below `root`; `root` itself when there is none."""
    for folder in (root, root / "CamVid", root / "SegNet" / "CamVid"):
        if folder.is_dir() and any(folder.glob("[!.]*.txt")):
            return folder
    return root
