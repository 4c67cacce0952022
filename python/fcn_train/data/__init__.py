"""Data sets for semantic segmentation: reading, checking, augmenting, loading, showing."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from fcn_train.data.camvid import CAMVID_CLASS_NAMES, CamVid, camvid_palette
from fcn_train.data.check import check_dataset
from fcn_train.data.dataset import (
    IGNORE_INDEX,
    DataError,
    Example,
    Problem,
    SegmentationDataset,
    read_image,
    read_label,
)
from fcn_train.data.fingerprint import fingerprint
from fcn_train.data.folder import FolderSegmentation
from fcn_train.data.loader import EvaluationLoader, MemoryDataset, TrainLoader
from fcn_train.data.nyud import NYUD_CLASS_NAMES, Nyud
from fcn_train.data.pascal_context import PASCAL_CONTEXT_CLASS_NAMES, PascalContext
from fcn_train.data.sample import SampleDataset, write_sample_dataset
from fcn_train.data.sbd import SbdSegmentation
from fcn_train.data.scene import SAMPLE_CLASS_NAMES
from fcn_train.data.sift_flow import (
    SIFT_FLOW_CLASS_NAMES,
    SIFT_FLOW_GEOMETRY_NAMES,
    SiftFlow,
)
from fcn_train.data.statistics import DatasetStatistics, dataset_statistics
from fcn_train.data.transforms import (
    CAFFE,
    IMAGENET,
    Batch,
    Compose,
    Mirror,
    Normalisation,
    RandomCrop,
    RandomScale,
    augmentation,
    collate,
    image_to_tensor,
    to_tensors,
)
from fcn_train.data.visualise import colourise, contact_sheet, dataset_sheet, overlay
from fcn_train.data.voc import VOC_CLASS_NAMES, VocSegmentation

__all__ = [
    "CAFFE",
    "CAMVID_CLASS_NAMES",
    "IGNORE_INDEX",
    "IMAGENET",
    "KINDS",
    "NYUD_CLASS_NAMES",
    "PASCAL_CONTEXT_CLASS_NAMES",
    "SAMPLE_CLASS_NAMES",
    "SIFT_FLOW_CLASS_NAMES",
    "SIFT_FLOW_GEOMETRY_NAMES",
    "VOC_CLASS_NAMES",
    "Batch",
    "CamVid",
    "Compose",
    "DataError",
    "DatasetStatistics",
    "EvaluationLoader",
    "Example",
    "FolderSegmentation",
    "MemoryDataset",
    "Mirror",
    "Normalisation",
    "Nyud",
    "PascalContext",
    "Problem",
    "RandomCrop",
    "RandomScale",
    "SampleDataset",
    "SbdSegmentation",
    "SegmentationDataset",
    "SiftFlow",
    "TrainLoader",
    "VocSegmentation",
    "augmentation",
    "camvid_palette",
    "check_dataset",
    "collate",
    "colourise",
    "contact_sheet",
    "dataset_sheet",
    "dataset_statistics",
    "fingerprint",
    "image_to_tensor",
    "open_dataset",
    "overlay",
    "read_image",
    "read_label",
    "to_tensors",
    "write_sample_dataset",
]

KINDS: dict[str, type[SegmentationDataset]] = {
    "sample": SampleDataset,
    "voc": VocSegmentation,
    "sbd": SbdSegmentation,
    "pascal-context": PascalContext,
    "nyud": Nyud,
    "sift-flow": SiftFlow,
    "camvid": CamVid,
    "folder": FolderSegmentation,
}
"""The reader of each kind of data."""


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
        options: further keywords of the class: `label_folder` for "voc" and "sift-flow";
            `image_folder`, `label_folder`, `num_classes`, `class_names` for "folder".

    Raises:
        DataError: if folders or lists are missing or unusable.
        ValueError: if `kind` is none of these, or an option does not apply to it.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    opener: Any = KINDS[kind]
    known = inspect.signature(opener).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"{option} does not apply to data of kind {kind!r}")
    dataset: SegmentationDataset = opener(Path(root), split, strict=strict, **options)
    return dataset
