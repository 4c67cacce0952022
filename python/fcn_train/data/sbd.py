"""SBD, the semantic boundaries data set: VOC's classes on 11,355 images of VOC 2011."""

from __future__ import annotations

from pathlib import Path

from fcn_train.data.lists import find_folder, find_list, read_ids
from fcn_train.data.matlab import MatlabSegmentation
from fcn_train.data.voc import VOC_CLASS_NAMES

__all__ = ["SbdSegmentation"]


class SbdSegmentation(MatlabSegmentation):
    """SBD (Hariharan et al., 2011), whose labels the paper trains on besides VOC's own.

    `img/*.jpg`, `cls/*.mat` (`GTcls.Segmentation`, 0..20, no void) and the lists `train.txt` and
    `val.txt`. Both lists overlap with VOC's own validation images: train on a list without them.

    Args:
        root: the folder of `img` and `cls`, or one above it (`benchmark_RELEASE`, or what holds
            it).
        split: name of a list beside the folders, or the path of a list file.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        candidates = ("", "dataset", "benchmark_RELEASE/dataset")
        folder, problems = find_folder(Path(root), candidates, ("img", "cls"))
        list_file = find_list(folder, split)

        def image_of(image_id: str) -> Path:
            return folder / "img" / f"{image_id}.jpg"

        ids = read_ids(list_file, problems, image_of)
        super().__init__(
            "SBD",
            ids,
            (image_of(image_id) for image_id in ids),
            (folder / "cls" / f"{image_id}.mat" for image_id in ids),
            variable="GTcls.Segmentation",
            classes={value: value for value in range(len(VOC_CLASS_NAMES))},
            class_names=VOC_CLASS_NAMES,
            source=list_file,
            problems=problems,
            strict=strict,
        )
