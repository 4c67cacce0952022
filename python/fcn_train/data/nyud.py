"""NYUDv2 with 40 classes: as the authors of FCN prepared it, or the labeled .mat itself."""

from __future__ import annotations

from pathlib import Path

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.depth import Channels
from fcn_train.data.lists import find_folder, find_list, read_ids
from fcn_train.data.matlab import MatlabSegmentation, from_one
from fcn_train.data.nyud_labeled import NyudLabeled, find_labeled
from fcn_train.data.nyud_names import NYUD_CLASS_NAMES
from fcn_train.data.problems import Problem

__all__ = ["Nyud", "open_nyud"]


def open_nyud(
    root: Path | str, split: str = "trainval", *, channels: Channels = "color", strict: bool = True
) -> SegmentationDataset:
    """NYUDv2 in the form that `root` has: `NyudLabeled` of a .mat file, or of a folder that holds
    nyu_depth_v2_labeled.mat, else `Nyud`. Arguments and errors as theirs."""
    labeled = find_labeled(Path(root))
    if labeled is not None:
        return NyudLabeled(labeled, split, channels=channels, strict=strict)
    return Nyud(root, split, channels=channels, strict=strict)


class Nyud(MatlabSegmentation):
    """NYUDv2 (Silberman et al., 2012), 40 classes (Gupta et al., 2013), as the authors of FCN
    prepared it.

    `data/images/img_5001.png`, `data/depth/img_5001.png` (16 bits, millimeters),
    `data/hha/img_5001.png`, `segmentation/img_5001.mat` (`segmentation`, 0 is void, then 1..40)
    and the lists `train.txt`, `val.txt` and `test.txt` of numbers.

    Args:
        root: the folder of `data` and `segmentation`; `images` and `segmentation` may also lie side
            by side, in it or in its `data`; or one that holds all this as `nyud`.
        split: name of a list in `root` or its `data`, or the path of a list file. Where there is
            no list "trainval", it is "train" and "val" together, 795 images.
        channels: what a network is to see; depth and HHA are read where they are part of it.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder or the list is missing, empty or repeats an image.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "trainval",
        *,
        channels: Channels = "color",
        strict: bool = True,
    ) -> None:
        root = Path(root)
        images, problems = find_folder(root, ("data", "", "nyud/data", "nyud"), ("images",))
        labels, lacking = find_folder(root, ("", "data", "nyud", "nyud/data"), ("segmentation",))
        problems += lacking
        for kind in ("depth", "hha"):
            if kind in channels and not (images / kind).is_dir():
                problems.append(Problem(images / kind, _WITHOUT[kind]))
        places = (root / "data", root / "nyud", root / "nyud" / "data")
        list_file = find_list(root, split, *places)

        def image_of(image_id: str) -> Path:
            return images / "images" / f"{_file_stem(image_id)}.png"

        lists = [list_file]
        if split == "trainval" and not list_file.is_file():
            lists = [find_list(root, part, *places) for part in ("train", "val")]
        ids = [name for part in lists for name in read_ids(part, problems, image_of)]
        stems = [_file_stem(image_id) for image_id in ids]
        super().__init__(
            "NYUDv2",
            ids,
            (image_of(image_id) for image_id in ids),
            (labels / "segmentation" / f"{stem}.mat" for stem in stems),
            variable="segmentation",
            classes=from_one(len(NYUD_CLASS_NAMES), 0),
            class_names=NYUD_CLASS_NAMES,
            channels=channels,
            depths=(images / "depth" / f"{stem}.png" for stem in stems),
            hhas=(images / "hha" / f"{stem}.png" for stem in stems),
            source=list_file,
            problems=problems,
            strict=strict,
        )


_WITHOUT = {
    "depth": "folder is missing; put the depth images there, or give --data.channels color",
    "hha": "folder is missing; write it from the depth images with: fcn data hha",
}


def _file_stem(image_id: str) -> str:
    return image_id if image_id.startswith("img_") else f"img_{image_id}"
