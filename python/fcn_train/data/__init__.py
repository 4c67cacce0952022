"""Data sets for semantic segmentation: reading, checking, augmenting, loading, showing."""

from __future__ import annotations

from fcn_train.data.ade20k import ADE20K_CLASS_NAMES, Ade20k
from fcn_train.data.batch import Batch, collate, padded
from fcn_train.data.camvid import CAMVID_CLASS_NAMES, CamVid, camvid_palette
from fcn_train.data.check import check_dataset
from fcn_train.data.cityscapes import CITYSCAPES_CLASS_NAMES, Cityscapes
from fcn_train.data.coding import (
    IGNORE_INDEX,
    LabelCoding,
    parse_label_map,
    read_label_colors,
)
from fcn_train.data.contents import (
    ClassWatch,
    absent_classes,
    check_split,
    too_few_classes,
)
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.depth import read_depth, read_hha
from fcn_train.data.example import Example
from fcn_train.data.fingerprint import fingerprint
from fcn_train.data.folder import FolderSegmentation
from fcn_train.data.hha import NYUD_CAMERA, Camera, hha_from_depth
from fcn_train.data.images import read_image
from fcn_train.data.kinds import KINDS, open_dataset
from fcn_train.data.label_sets import LabelSet
from fcn_train.data.labels import read_label
from fcn_train.data.loader import EvaluationLoader, TrainLoader
from fcn_train.data.memory import MemoryDataset
from fcn_train.data.normalization import (
    CAFFE,
    IMAGENET,
    Normalization,
    image_to_tensor,
    input_to_tensor,
    to_tensors,
)
from fcn_train.data.nyud import Nyud
from fcn_train.data.nyud_labeled import NyudLabeled
from fcn_train.data.nyud_names import NYUD_CLASS_NAMES
from fcn_train.data.pascal_context import (
    PASCAL_CONTEXT_33_CLASS_NAMES,
    PASCAL_CONTEXT_CLASS_NAMES,
    PascalContext,
    PascalContext33,
)
from fcn_train.data.problems import DataError, Problem
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
    Compose,
    Mirror,
    RandomCrop,
    RandomScale,
    augmentation,
)
from fcn_train.data.visualize import colorize, contact_sheet, dataset_sheet, overlay
from fcn_train.data.voc import VOC_CLASS_NAMES, VocSegmentation

__all__ = [
    "ADE20K_CLASS_NAMES",
    "CAFFE",
    "CAMVID_CLASS_NAMES",
    "CITYSCAPES_CLASS_NAMES",
    "IGNORE_INDEX",
    "IMAGENET",
    "KINDS",
    "NYUD_CAMERA",
    "NYUD_CLASS_NAMES",
    "PASCAL_CONTEXT_33_CLASS_NAMES",
    "PASCAL_CONTEXT_CLASS_NAMES",
    "SAMPLE_CLASS_NAMES",
    "SIFT_FLOW_CLASS_NAMES",
    "SIFT_FLOW_GEOMETRY_NAMES",
    "VOC_CLASS_NAMES",
    "Ade20k",
    "Batch",
    "CamVid",
    "Camera",
    "Cityscapes",
    "ClassWatch",
    "Compose",
    "DataError",
    "DatasetStatistics",
    "EvaluationLoader",
    "Example",
    "FolderSegmentation",
    "LabelCoding",
    "LabelSet",
    "MemoryDataset",
    "Mirror",
    "Normalization",
    "Nyud",
    "NyudLabeled",
    "PascalContext",
    "PascalContext33",
    "Problem",
    "RandomCrop",
    "RandomScale",
    "SampleDataset",
    "SbdSegmentation",
    "SegmentationDataset",
    "SiftFlow",
    "TrainLoader",
    "VocSegmentation",
    "absent_classes",
    "augmentation",
    "camvid_palette",
    "check_dataset",
    "check_split",
    "collate",
    "colorize",
    "contact_sheet",
    "dataset_sheet",
    "dataset_statistics",
    "fingerprint",
    "hha_from_depth",
    "image_to_tensor",
    "input_to_tensor",
    "open_dataset",
    "overlay",
    "padded",
    "parse_label_map",
    "read_depth",
    "read_hha",
    "read_image",
    "read_label",
    "read_label_colors",
    "to_tensors",
    "too_few_classes",
    "write_sample_dataset",
]
