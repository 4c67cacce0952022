"""Cityscapes in its own layout: street scenes of 2048 x 1024, 19 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn_train.data.coding import IGNORE_INDEX, LabelCoding
from fcn_train.data.lists import find_folder
from fcn_train.data.split_folders import SplitFolders

__all__ = ["CITYSCAPES_CLASS_NAMES", "Cityscapes", "cityscapes_palette"]

# Cordts et al., 2016: what is trained on, with the label id and the color of each.
_CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_HIGHEST_ID = 33  # the other ids up to it are void

CITYSCAPES_CLASS_NAMES = tuple(name for name, _, _ in _CLASSES)
CITYSCAPES_IDS = tuple(label_id for _, label_id, _ in _CLASSES)
"""The label id of each class in `*_labelIds.png`."""


class Cityscapes(SplitFolders):
    """Cityscapes (Cordts et al., 2016), the 19 classes that its benchmark scores; the other label
    ids, such as ego vehicle and parking, are void.

    `leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png` and the label ids of
    `gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png`, as the two archives have them;
    nothing has to be converted to train ids.

    Args:
        root: the folder of `leftImg8bit` and `gtFine`, or one that holds it as `cityscapes`.
        split: "train", "val", or one city as "train/aachen". Labels of "test" are not published.
        label_folder: `gtFine` (the default, and ""), or `gtCoarse`, which has a split
            "train_extra", too.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder is missing or holds no image.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        *,
        label_folder: str = "gtFine",
        strict: bool = True,
    ) -> None:
        label_folder = label_folder or "gtFine"
        folder, _ = find_folder(Path(root), ("", "cityscapes"), ("leftImg8bit",))
        super().__init__(
            "Cityscapes",
            folder / "leftImg8bit",
            folder / label_folder,
            split,
            suffixes=("_leftImg8bit.png", f"_{label_folder}_labelIds.png"),
            class_names=CITYSCAPES_CLASS_NAMES,
            palette=cityscapes_palette(),
            coding=_coding(),
            strict=strict,
        )


def cityscapes_palette() -> np.ndarray:
    """The published colors of the classes, (256, 3) uint8; void and unused entries black."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(_CLASSES)] = [color for _, _, color in _CLASSES]
    return palette


def _coding() -> LabelCoding:
    classes = dict.fromkeys(range(_HIGHEST_ID + 1), IGNORE_INDEX)
    classes.update({label_id: index for index, label_id in enumerate(CITYSCAPES_IDS)})
    return LabelCoding(classes=tuple(classes.items()))
