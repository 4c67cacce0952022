"""SIFT Flow: outdoor scenes of 256 x 256 pixels, labelled twice."""

from __future__ import annotations

from pathlib import Path

from fcn_train.data.lists import find_folder, find_list, read_ids
from fcn_train.data.matlab import MatlabSegmentation, from_one
from fcn_train.data.problems import DataError, Problem

__all__ = ["SIFT_FLOW_CLASS_NAMES", "SIFT_FLOW_GEOMETRY_NAMES", "SiftFlow"]

SIFT_FLOW_CLASS_NAMES = (
    *("awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk"),
    *("desert", "door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole"),
    *("river", "road", "rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase"),
    *("streetlight", "sun", "tree", "window"),
)
SIFT_FLOW_GEOMETRY_NAMES = ("sky", "horizontal", "vertical")

_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
_LABELS = {
    "SemanticLabels": (SIFT_FLOW_CLASS_NAMES, from_one(33, 0)),
    # -1 is void; the reference implementation takes 0 for it, too.
    "GeoLabels": (SIFT_FLOW_GEOMETRY_NAMES, from_one(3, -1, 0)),
}


class SiftFlow(MatlabSegmentation):
    """SIFT Flow (Liu et al., 2011): 33 semantic or 3 geometric classes.

    `Images`, `SemanticLabels` and `GeoLabels`, each with one folder of scenes below it (labels are
    the variable `S`). The archive has no lists: put the published `trainval.txt` and `test.txt`
    beside the folders, or give a list's path.

    Args:
        root: the folder of `Images`, or one that holds it as `SiftFlowDataset`.
        split: name of a list beside the folders, or the path of a list file.
        label_folder: `SemanticLabels` (the default, and "") or `GeoLabels`.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image;
            always, if `label_folder` is another.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "trainval",
        *,
        label_folder: str = "SemanticLabels",
        strict: bool = True,
    ) -> None:
        label_folder = label_folder or "SemanticLabels"
        if label_folder not in _LABELS:
            message = f"holds no labels of SIFT Flow; give {' or '.join(_LABELS)}"
            raise DataError(Problem(Path(root) / label_folder, message))
        needed = ("Images", label_folder)
        folder, problems = find_folder(Path(root), ("", "SiftFlowDataset"), needed)
        list_file = find_list(folder, split)

        def image_of(image_id: str) -> Path:
            return folder / "Images" / _SCENES / f"{image_id}.jpg"

        ids = read_ids(list_file, problems, image_of)
        names, classes = _LABELS[label_folder]
        super().__init__(
            "SIFT Flow",
            ids,
            [image_of(image_id) for image_id in ids],
            [folder / label_folder / _SCENES / f"{image_id}.mat" for image_id in ids],
            variable="S",
            classes=classes,
            class_names=names,
            source=list_file,
            problems=problems,
            strict=strict,
        )
