"""The options for data and how it is read, and those of `fcn data`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

DataKind = Literal[
    "sample",
    "voc",
    "sbd",
    "pascal-context",
    "pascal-context-33",
    "nyud",
    "sift-flow",
    "camvid",
    "cityscapes",
    "ade20k",
    "folder",
]
# What is trained on and scored, where the published lists are not called train and val.
SPLITS = {"nyud": ("trainval", "test"), "sift-flow": ("trainval", "test")}
SampleLayout = Literal[
    "voc",
    "sbd",
    "pascal-context",
    "nyud",
    "nyud-mat",
    "sift-flow",
    "camvid",
    "cityscapes",
    "ade20k",
    "folder",
]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def default_splits(kind: str) -> tuple[str, str]:
    """What a kind of data is trained and scored on by default, as in the paper."""
    return SPLITS.get(kind, ("train", "val"))


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Where a data set lies, and how its labels are read."""

    kind: DataKind = "sample"
    """Layout of the data set; "sample" is generated in runs/sample-data if it does not exist."""
    root: Path | None = None
    """Its folder."""
    image_folder: str = ""
    """Folder of the images, instead of JPEGImages or images (voc, folder)."""
    label_folder: str = ""
    """Folder of the labels, instead of the kind's own (voc, folder; sift-flow: GeoLabels;
    cityscapes: gtCoarse). For several sets of labels, folders separated by commas; each set gets a
    head (sift-flow: SemanticLabels,GeoLabels; folder, with the second's classes in
    classes-FOLDER.txt)."""
    label_suffix: str = ""
    """What follows an image's name in that of its label, e.g. _mask.png, .gif (voc, folder)."""
    classes: Path | None = None
    """File with one class name per line; default classes.txt in the root (voc, folder)."""
    void_label: int | None = None
    """Value in labels that means void, besides 255 (voc, folder)."""
    first_class: int = 0
    """Value in labels of the first class (voc, folder)."""
    label_map: str = ""
    """Class of every value in labels, e.g. 0=0,255=1 or 1-7=0,8=1,9=void (voc, folder)."""
    label_colors: str = ""
    """Read labels by their colors: "voc" for VOC's, or a file with one color per class and line, R
    G B or #RRGGBB, with "void" before colors of void. "ignore": read labels by their values even if
    their palettes differ (voc, folder)."""
    channels: Literal["color", "hha", "color-depth", "color-hha"] = "color"
    """What the network sees: color, depth as HHA, color and the logarithm of depth, or color and
    HHA (nyud, folder)."""
    depth_folder: str = ""
    """Folder of the depth images, 16 bits in millimeters, 0 = missing; default depth (folder)."""
    hha_folder: str = ""
    """Folder of the HHA images, which `fcn data hha` writes; default hha (folder)."""
    exif: Literal["refuse", "stored", "upright"] = "refuse"
    """Whether labels match the stored or the upright pixels of images that EXIF rotates; refuse:
    refuse images if their size does not show which (voc, folder)."""


@dataclass(frozen=True)
class SampleOptions:
    """Write the sample data set, in the layout of PASCAL VOC or of another published set."""

    root: Path | None = None
    """Folder to write; default runs/sample-data, or runs/sample-LAYOUT."""
    layout: SampleLayout = "voc"
    """Layout to write, that of the published set of this name: nyud, nyud-mat (the labeled .mat)
    and folder have depth, sift-flow has two sets of labels."""
    seed: int = 0
    """Seed of the pictures."""
    train: int = 320
    """Images of the train split."""
    val: int = 80
    """Images of the val split."""
    size: int = 128
    """Longer side of the images in pixels."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class GetOptions:
    """Download a published data set and unpack it; a broken download is continued."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = field()
    """voc2012, voc2011, sbd, pascal-context, nyud, nyud-mat, sift-flow, ade20k or camvid."""
    root: Path | None = None
    """Folder for it; default data/NAME."""
    mirror: tuple[str, ...] = ()
    """Addresses of folders on the web that are tried first."""
    keep: Flag = False
    """Keep the archives once they are unpacked."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ReadingOptions):
    """Decode every file of a data set and report everything that is wrong."""

    kind: DataKind = field()
    root: Path = field()
    split: Annotated[tuple[str, ...], tyro.conf.arg(name="split")] = ()
    """One or more splits; default: train and val (nyud, sift-flow: trainval and test)."""
    limit: int = 3
    """How many problems of each sort to show; 0 = all (at most 1000 about a list itself)."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class StatsOptions(ReadingOptions):
    """Count sizes, classes and void of a split, and the class weights they give."""

    kind: DataKind = field()
    root: Path = field()
    split: str | None = None
    """Default: train (nyud, sift-flow: trainval)."""
    output: Path | None = None
    """JSON file to write the same numbers to."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class HhaOptions:
    """Compute HHA images (disparity, height above ground, angle with gravity) from depth."""

    depth: Path = field()
    """Folder of depth images, 16 bits in millimeters, 0 = missing; subfolders are included."""
    output: Path = field()
    """Folder for the HHA images, PNG files with the same names."""
    camera: tuple[float, float, float, float] | None = None
    """Focal lengths and principal point of the camera in pixels, FX FY CX CY; default NYUDv2's, for
    images of 640 x 480."""
    traceback: Flag = False
    """Show Python's traceback of an error."""
