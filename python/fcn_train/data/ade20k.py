"""ADE20K, as in the scene parsing benchmark: 150 classes, 0 is void."""

from __future__ import annotations

from pathlib import Path

from fcn_ext.numpy import voc_palette
from fcn_train.data.coding import LabelCoding
from fcn_train.data.lists import find_folder
from fcn_train.data.split_folders import SplitFolders

__all__ = ["ADE20K_CLASS_NAMES", "Ade20k"]

# Zhou et al., 2017; the first of the names that objectInfo150 gives each class, or the one that
# tells it from others.
ADE20K_CLASS_NAMES = (
    *("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass"),
    *("cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain"),
    *("chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug"),
    *("field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub"),
    *("railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter"),
    *("sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs"),
    *("runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge"),
    *("bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench"),
    *("countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar"),
    *("arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier"),
    *("awning", "streetlight", "booth", "television receiver", "airplane", "dirt track"),
    *("apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet"),
    *("poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer"),
    *("plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag"),
    *("minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name", "microwave"),
    *("pot", "animal", "bicycle", "lake", "dishwasher", "projection screen", "blanket"),
    *("sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier"),
    *("crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock"),
    "flag",
)

_PUBLISHED_SPLITS = {"train": "training", "val": "validation"}


class Ade20k(SplitFolders):
    """ADE20K's scene parsing benchmark (Zhou et al., 2017): 150 classes, the rest is void.

    `images/training/*.jpg` and `annotations/training/*.png` (0 is other things, then 1..150), as in
    the archive ADEChallengeData2016.

    Args:
        root: the folder of `images` and `annotations`, or one that holds it as
            `ADEChallengeData2016` or, of the benchmark's few examples, `sampleData`.
        split: "train" or "val", called `training` and `validation` there; any other folder below
            both, or "" for every image.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if a folder is missing or holds no image.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        candidates = ("", "ADEChallengeData2016", "sampleData")
        folder, _ = find_folder(Path(root), candidates, ("images", "annotations"))
        super().__init__(
            "ADE20K",
            folder / "images",
            folder / "annotations",
            _PUBLISHED_SPLITS.get(split, split),
            suffixes=(".jpg", ".png"),
            class_names=ADE20K_CLASS_NAMES,
            palette=voc_palette(),
            coding=LabelCoding(void=(0,), first_class=1),
            strict=strict,
        )
