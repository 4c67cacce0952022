"""SIFT Flow: outdoor scenes of 256 x 256 pixels, labeled twice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fcn_ext.numpy import voc_palette
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.label_sets import LabelSet
from fcn_train.data.lists import find_folder, find_list, read_ids
from fcn_train.data.matlab import MatlabLabels, from_one
from fcn_train.data.path_list import PathList
from fcn_train.data.problems import DataError, Problem

__all__ = ["SIFT_FLOW_CLASS_NAMES", "SIFT_FLOW_GEOMETRY_NAMES", "SiftFlow"]

SIFT_FLOW_CLASS_NAMES = (
    *("awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk"),
    *("desert", "door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole"),
    *("river", "road", "rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase"),
    *("streetlight", "sun", "tree", "window"),
)
SIFT_FLOW_GEOMETRY_NAMES = ("sky", "horizontal", "vertical")

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


class _Labels(NamedTuple):
    """One of the two sets: its name, its classes, and what the values of its files stand for."""

    name: str
    class_names: tuple[str, ...]
    classes: dict[int, int]


_LABELS = {
    "SemanticLabels": _Labels("semantic", SIFT_FLOW_CLASS_NAMES, from_one(33, 0)),
    # -1 is void; the reference implementation takes 0 for it, too.
    "GeoLabels": _Labels("geometric", SIFT_FLOW_GEOMETRY_NAMES, from_one(3, -1, 0)),
}


class SiftFlow(SegmentationDataset):
    """SIFT Flow (Liu et al., 2011): 33 semantic classes, 3 geometric ones, or both at once.

    `Images`, `SemanticLabels` and `GeoLabels`, each with one folder of scenes below it (labels are
    the variable `S`). The archive has no lists: put the published `trainval.txt` and `test.txt`
    beside the folders, or give a list's path.

    Args:
        root: the folder of `Images`, or one that holds it as `SiftFlowDataset`.
        split: name of a list beside the folders or in `root`, or the path of a list file.
        label_folder: `SemanticLabels` (the default, and ""), `GeoLabels`, or
            `SemanticLabels,GeoLabels` for both sets of classes, "semantic" and "geometric".
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image;
            always, if `label_folder` is another.

    Example:
        >>> both = SiftFlow(
        ...     "SiftFlowDataset", "test", label_folder="SemanticLabels,GeoLabels"
        ... )  # doctest: +SKIP
        >>> [labels.name for labels in both.label_sets]  # doctest: +SKIP
        ['semantic', 'geometric']
        >>> both[0].labels[1].shape  # doctest: +SKIP
        (256, 256)
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "trainval",
        *,
        label_folder: str = "SemanticLabels",
        strict: bool = True,
    ) -> None:
        label_folders = [name.strip() for name in (label_folder or "SemanticLabels").split(",")]
        for name in label_folders:
            if name not in _LABELS or label_folders.count(name) > 1:
                message = f"holds no labels of SIFT Flow; give {', '.join(_LABELS)} or both"
                raise DataError(Problem(Path(root) / name, message))
        needed = ("Images", *label_folders)
        folder, problems = find_folder(Path(root), ("", "SiftFlowDataset"), needed)
        list_file = find_list(folder, split, Path(root))

        def image_of(image_id: str) -> Path:
            return folder / "Images" / SCENES / f"{image_id}.jpg"

        missing = "the archive has no lists: put the published trainval.txt and test.txt there"
        ids = read_ids(list_file, problems, image_of, missing)

        def label_set(label_folder: str) -> LabelSet:
            name, class_names, classes = _LABELS[label_folder]
            reader = MatlabLabels("SIFT Flow", "S", classes)
            paths = (folder / label_folder / SCENES / f"{image_id}.mat" for image_id in ids)
            return LabelSet(name, class_names, voc_palette(), reader, PathList(paths))

        first, *others = map(label_set, label_folders)
        super().__init__(
            "SIFT Flow",
            ids,
            (image_of(image_id) for image_id in ids),
            first.paths,
            class_names=first.class_names,
            palette=first.palette,
            reader=first.reader,
            label_set=first.name,
            more_labels=others,
            source=list_file,
            problems=problems,
            strict=strict,
        )
