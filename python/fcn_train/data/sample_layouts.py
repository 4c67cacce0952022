"""The layouts in which the sample data set can be written: those of the published sets.

Each function writes every scene that it is given. The classes stand in the place of the set's own:
the sample's 21 where it has as many, or 11, textures merged, where it has fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data.camvid import CAMVID_VOID
from fcn_train.data.cityscapes import CITYSCAPES_IDS
from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.example import Example
from fcn_train.data.hha import hha_from_depth
from fcn_train.data.nyud_labeled import FIRST_ID, LABELED, MAPPING, RAW_CLASSES, SPLITS
from fcn_train.data.nyud_names import NYUD_CLASS_NAMES
from fcn_train.data.pascal_context import listed_values
from fcn_train.data.problems import DataError, Problem
from fcn_train.data.scene import SAMPLE_CLASS_NAMES
from fcn_train.data.scene_depth import SAMPLE_GEOMETRY_NAMES, scene_camera
from fcn_train.data.sift_flow import SCENES

__all__ = ["LAYOUTS", "Layout", "Scene"]


class Scene(NamedTuple):
    """One picture of the sample: its split, "train" or "val", its name, its place among all from 0
    on, and all that is known of it."""

    split: str
    name: str
    number: int
    example: Example


Write = Callable[[Path, Iterable[Scene]], None]


@dataclass(frozen=True)
class Layout:
    """How the sample is written.

    Attributes:
        kind: of data, that reads it.
        write: every scene into a folder that is there.
        contents: what is in the folder then, by name.
        one_size: whether all pictures must have one size.
        least_train: how many pictures of train it takes.
    """

    kind: str
    write: Write
    contents: frozenset[str]
    one_size: bool = False
    least_train: int = 1


def _voc(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        _save(folder / "JPEGImages" / f"{scene.name}.jpg", scene.example.image)
        label = folder / "SegmentationClass" / f"{scene.name}.png"
        _save(label, scene.example.label, palette=True)
        names.add(scene.split, scene.name)
        names.add("trainval", scene.name)
    names.write(folder / "ImageSets" / "Segmentation")
    _write_lines(folder / "classes.txt", SAMPLE_CLASS_NAMES)


def _folder(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        _save(folder / "images" / f"{scene.name}.jpg", scene.example.image)
        for name, label in zip(("labels", "geometry"), scene.example.labels, strict=True):
            _save(folder / name / f"{scene.name}.png", label, palette=True)
        _save_depth(folder, f"{scene.name}.png", scene.example)
        names.add(scene.split, scene.name)
    names.write(folder)
    _write_lines(folder / "classes.txt", SAMPLE_CLASS_NAMES)
    _write_lines(folder / "classes-geometry.txt", SAMPLE_GEOMETRY_NAMES)


def _sbd(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        _save(folder / "img" / f"{scene.name}.jpg", scene.example.image)
        label = _with_void(scene.example.label, 0)  # SBD has none
        _save_matlab(folder / "cls" / f"{scene.name}.mat", GTcls={"Segmentation": label})
        names.add(scene.split, scene.name)
    names.write(folder)


def _pascal_context(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        _save(folder / "VOC2010" / "JPEGImages" / f"{scene.name}.jpg", scene.example.image)
        label = _with_void(scene.example.label, 0).astype(np.uint16)
        _save_matlab(folder / "trainval" / f"{scene.name}.mat", LabelMap=label)
        names.add(scene.split, scene.name)
    names.write(folder / "VOC2010" / "ImageSets" / "Main")
    _write_lines(folder / "labels.txt", listed_values())


def _camvid(folder: Path, scenes: Iterable[Scene]) -> None:
    lines = _Names()
    for scene in scenes:
        image, label = (f"{scene.split}{part}/{scene.name}.png" for part in ("", "annot"))
        _save(folder / image, scene.example.image)
        _save(folder / label, _with_void(_merged(scene.example.label), CAMVID_VOID))
        lines.add(scene.split, f"/SegNet/CamVid/{image} /SegNet/CamVid/{label}")
    lines.write(folder)


def _cityscapes(folder: Path, scenes: Iterable[Scene]) -> None:
    ids = np.zeros(256, dtype=np.uint8)  # 0, unlabeled, is void
    ids[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    for scene in scenes:
        start = f"{scene.split}/sample/sample_{scene.number:06d}_000000"
        _save(folder / "leftImg8bit" / f"{start}_leftImg8bit.png", scene.example.image)
        label = ids[_merged(scene.example.label)]
        _save(folder / "gtFine" / f"{start}_gtFine_labelIds.png", label)


def _ade20k(folder: Path, scenes: Iterable[Scene]) -> None:
    for scene in scenes:
        place = {"train": "training/ADE_train", "val": "validation/ADE_val"}[scene.split]
        _save(folder / "images" / f"{place}_{scene.number:08d}.jpg", scene.example.image)
        label = _from_one(scene.example.label)
        _save(folder / "annotations" / f"{place}_{scene.number:08d}.png", label)


def _sift_flow(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        semantic, geometric = scene.example.labels
        _save(folder / "Images" / SCENES / f"{scene.name}.jpg", scene.example.image)
        file = f"{SCENES}/{scene.name}.mat"
        _save_matlab(folder / "SemanticLabels" / file, S=_from_one(semantic))
        signed = np.where(geometric == IGNORE_INDEX, -1, geometric.astype(np.int16) + 1)
        _save_matlab(folder / "GeoLabels" / file, S=signed.astype(np.int16))
        names.add({"train": "trainval", "val": "test"}[scene.split], scene.name)
    names.write(folder)


def _nyud(folder: Path, scenes: Iterable[Scene]) -> None:
    names = _Names()
    for scene in scenes:
        number = str(FIRST_ID + scene.number)
        _save(folder / "data" / "images" / f"img_{number}.png", scene.example.image)
        _save_depth(folder / "data", f"img_{number}.png", scene.example)
        label = folder / "segmentation" / f"img_{number}.mat"
        _save_matlab(label, segmentation=_from_one(scene.example.label))
        trained = "val" if scene.number % 2 else "train"  # the published halves of trainval
        names.add("test" if scene.split == "val" else trained, number)
    names.write(folder)


def _nyud_mat(folder: Path, scenes: Iterable[Scene]) -> None:
    try:
        import h5py
    except ImportError:
        message = "is written by h5py; install it: pip install h5py"
        raise DataError(Problem(folder / LABELED, message)) from None
    numbers: dict[str, list[int]] = {"train": [], "val": []}
    with h5py.File(folder / LABELED, "w", userblock_size=512) as stored:
        for scene in scenes:
            assert scene.example.depth is not None
            for name, values in (
                ("images", scene.example.image),
                ("depths", (scene.example.depth / 1000).astype(np.float32)),
                ("labels", _from_one(scene.example.label).astype(np.uint16)),
            ):
                part = values.T  # MATLAB's axes are stored reversed
                if name not in stored:
                    options = {"chunks": (1, *part.shape), "compression": "gzip"}
                    shape, limit = (0, *part.shape), (None, *part.shape)
                    stored.create_dataset(name, shape, part.dtype, maxshape=limit, **options)
                stored[name].resize(scene.number + 1, axis=0)
                stored[name][scene.number] = part
            numbers[scene.split].append(scene.number + 1)
    mapped = np.arange(RAW_CLASSES) % len(NYUD_CLASS_NAMES) + 1
    _save_matlab(folder / MAPPING, mapClass=mapped.astype(np.uint8)[None])
    splits = {f"{name}Ndxs": np.array([numbers[part]], dtype=np.uint16).T for name, part in _PARTS}
    _save_matlab(folder / SPLITS, **splits)


_PARTS = (("train", "train"), ("test", "val"))

LAYOUTS = {
    "voc": Layout(
        "voc",
        _voc,
        frozenset({"JPEGImages", "SegmentationClass", "ImageSets", "classes.txt"}),
    ),
    "folder": Layout(
        "folder",
        _folder,
        frozenset(
            {
                *("images", "labels", "geometry", "depth", "hha"),
                *("classes.txt", "classes-geometry.txt", "train.txt", "val.txt"),
            }
        ),
    ),
    "sbd": Layout("sbd", _sbd, frozenset({"img", "cls", "train.txt", "val.txt"})),
    "pascal-context": Layout(
        "pascal-context", _pascal_context, frozenset({"trainval", "labels.txt", "VOC2010"})
    ),
    "nyud": Layout(
        "nyud",
        _nyud,
        frozenset({"data", "segmentation", "train.txt", "val.txt", "test.txt"}),
        least_train=2,  # one in each half of trainval
    ),
    "nyud-mat": Layout("nyud", _nyud_mat, frozenset({LABELED, MAPPING, SPLITS}), one_size=True),
    "sift-flow": Layout(
        "sift-flow",
        _sift_flow,
        frozenset({"Images", "SemanticLabels", "GeoLabels", "trainval.txt", "test.txt"}),
    ),
    "camvid": Layout(
        "camvid",
        _camvid,
        frozenset({"train", "trainannot", "train.txt", "val", "valannot", "val.txt"}),
    ),
    "cityscapes": Layout("cityscapes", _cityscapes, frozenset({"leftImg8bit", "gtFine"})),
    "ade20k": Layout("ade20k", _ade20k, frozenset({"images", "annotations"})),
}
"""How each layout of `fcn data sample --layout` is written."""


class _Names:
    """The lines of each list, in the order of the scenes."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, split: str, line: str) -> None:
        self._lines.setdefault(split, []).append(line)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for split, lines in self._lines.items():
            _write_lines(folder / f"{split}.txt", lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def _save(path: Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette(voc_palette().tobytes())
    options: dict[str, Any] = {"quality": 92} if path.suffix == ".jpg" else {}
    picture.save(path, **options)


def _save_depth(folder: Path, name: str, example: Example) -> None:
    """Its depth and the HHA of that, in folders of those names."""
    assert example.depth is not None
    _save(folder / "depth" / name, example.depth)
    height, width = example.depth.shape
    _save(folder / "hha" / name, hha_from_depth(example.depth, scene_camera(height, width)))


def _save_matlab(path: Path, **variables: Any) -> None:
    try:
        from scipy.io import savemat
    except ImportError:
        message = "is a MATLAB file, which scipy writes; install it: pip install scipy"
        raise DataError(Problem(path, message)) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)


def _with_void(label: np.ndarray, void: int) -> np.ndarray:
    return np.where(label == IGNORE_INDEX, np.uint8(void), label)


def _from_one(label: np.ndarray) -> np.ndarray:
    """Classes counted from one; 0 is void."""
    counted: np.ndarray = label + np.uint8(1)  # 255 becomes 0
    return counted


def _merged(label: np.ndarray) -> np.ndarray:
    """The objects' textures merged: background and ten classes."""
    merged = (label + np.uint8(1)) // 2
    return np.where(label == IGNORE_INDEX, label, merged)
