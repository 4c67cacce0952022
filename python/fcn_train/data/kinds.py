"""The kinds of data, and the function that opens one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fcn_train.data.ade20k import Ade20k
from fcn_train.data.camvid import CamVid
from fcn_train.data.cityscapes import Cityscapes
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.folder import FolderSegmentation
from fcn_train.data.nyud import open_nyud
from fcn_train.data.pascal_context import PascalContext, PascalContext33
from fcn_train.data.sample import SampleDataset
from fcn_train.data.sbd import SbdSegmentation
from fcn_train.data.sift_flow import SiftFlow
from fcn_train.data.voc import VocSegmentation

KINDS: dict[str, Callable[..., SegmentationDataset]] = {
    "sample": SampleDataset,
    "voc": VocSegmentation,
    "sbd": SbdSegmentation,
    "pascal-context": PascalContext,
    "pascal-context-33": PascalContext33,
    "nyud": open_nyud,
    "sift-flow": SiftFlow,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "ade20k": Ade20k,
    "folder": FolderSegmentation,
}
"""The reader of each kind of data."""

_TEXTS = {"image_folder", "label_folder", "label_suffix", "depth_folder", "hha_folder"}


def open_dataset(
    kind: str, root: Path | str, split: str, *, strict: bool = True, **options: Any
) -> SegmentationDataset:
    """Open one split of a data set.

    Args:
        kind: one of `KINDS`.
        root: its folder; see the class of each kind for what may be given.
        split: name of a list or path of a list file; "" is every image, for "folder" alone.
        strict: raise the first problem of lists and folders; without it the data set keeps them
            for `check_dataset`.
        options: further keywords of the class, as `label_folder` for "voc", "sift-flow" and
            "cityscapes";
            `image_folder`, `label_suffix`, `class_names`, `coding` and `exif` for "voc" and
            "folder"; `channels` for "nyud" and "folder"; `num_classes`, `depth_folder` and
            `hha_folder` for "folder".

    Raises:
        DataError: if folders or lists are missing or unusable.
        TypeError: if `root` is not a path, or `split` or the name of a folder not a string.
        ValueError: if `kind` is unknown, or an option does not apply to it.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for option, value in options.items():
        if not takes(kind, option):
            raise ValueError(f"{option} does not apply to data of kind {kind!r}")
        if option in _TEXTS:
            options[option] = _text(option, value)
    if not isinstance(root, str | os.PathLike):
        raise TypeError(f"root must be a path, got {type(root).__name__}")
    if not isinstance(split, str | os.PathLike):
        raise TypeError(f"split must be the name or path of a list, or '', got {split!r}")
    return KINDS[kind](Path(root), os.fspath(split), strict=strict, **options)


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        several = ", several as 'labels,parts'" if option == "label_folder" else ""
        raise TypeError(f"{option} must be a text{several}, got {value!r}")
    return os.fspath(value)


def takes(kind: str, option: str) -> bool:
    """Whether the reader of a kind has a keyword called `option`."""
    return option in inspect.signature(KINDS[kind]).parameters
