"""NYUDv2 with 40 classes, as the authors of FCN prepared it: color images, labels in MATLAB."""

from __future__ import annotations

from pathlib import Path

from fcn_train.data.lists import find_folder, find_list, read_ids
from fcn_train.data.matlab import MatlabSegmentation, from_one

__all__ = ["NYUD_CLASS_NAMES", "Nyud"]

# Gupta et al., 2013; spelt as published.
NYUD_CLASS_NAMES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror"),
    *("floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel"),
    *("shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp"),
    *("bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)


class Nyud(MatlabSegmentation):
    """NYUDv2 (Silberman et al., 2012), 40 classes (Gupta et al., 2013).

    `data/images/img_5001.png`, `segmentation/img_5001.mat` (`segmentation`, 0 is void, then 1..40)
    and the lists `train.txt`, `val.txt` and `test.txt` of numbers. Depth is not read.

    Args:
        root: the folder of `data` and `segmentation`; `images` and `segmentation` may also lie side
            by side, in it or in its `data`.
        split: name of a list in `root` or its `data`, or the path of a list file.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        root = Path(root)
        images, problems = find_folder(root, ("data", ""), ("images",))
        labels, lacking = find_folder(root, ("", "data"), ("segmentation",))
        problems += lacking
        list_file = find_list(root, split, root / "data")

        def image_of(image_id: str) -> Path:
            return images / "images" / f"{_file_stem(image_id)}.png"

        ids = read_ids(list_file, problems, image_of)
        super().__init__(
            "NYUDv2",
            ids,
            [image_of(image_id) for image_id in ids],
            [labels / "segmentation" / f"{_file_stem(image_id)}.mat" for image_id in ids],
            variable="segmentation",
            classes=from_one(len(NYUD_CLASS_NAMES), 0),
            class_names=NYUD_CLASS_NAMES,
            source=list_file,
            problems=problems,
            strict=strict,
        )


def _file_stem(image_id: str) -> str:
    return image_id if image_id.startswith("img_") else f"img_{image_id}"
