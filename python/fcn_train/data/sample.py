"""The sample data set: generated pictures in PASCAL VOC's own layout, so that a first run needs no
download and uses the same reader as VOC itself."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fcn_train.data.problems import DataError, Problem, shortened
from fcn_train.data.sample_layouts import LAYOUTS, Layout, Scene
from fcn_train.data.scene import SAMPLE_CLASS_NAMES, draw_scene
from fcn_train.data.voc import VocSegmentation
from fcn_train.json_text import parse_json

MANIFEST = "sample.json"
_GENERATOR = "fcn_train sample data set"
_VERSION = 1  # raised whenever the same seed gives other pictures
_MAX_SIZE = 4096
_MAX_IMAGES = 1_000_000  # in a split: names have six digits


class SampleDataset(VocSegmentation):
    """A data set that `write_sample_dataset` wrote: VOC's layout with its own class names.

    Args:
        root, split, strict: as for `VocSegmentation`.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True) -> None:
        root = Path(root)
        if strict and not is_sample(root):
            message = "is missing, so this is no sample data set; write one with `fcn data sample`"
            raise DataError(Problem(root / MANIFEST, message))
        super().__init__(root, split, class_names=SAMPLE_CLASS_NAMES, name="sample", strict=strict)


def write_sample_dataset(
    root: Path | str,
    *,
    seed: int = 0,
    train: int = 320,
    val: int = 80,
    size: int = 128,
    layout: str = "voc",
    advance: Callable[[], object] = lambda: None,
) -> Path:
    """Write the sample data set to `root`, unless the same one is there already.

    Layout: `JPEGImages/*.jpg`, `SegmentationClass/*.png` (palette, 255 = void),
    `ImageSets/Segmentation/{train,val,trainval}.txt`, `classes.txt`, and a manifest `sample.json`;
    or that of another published set. The same arguments give the same bytes, except for the dates
    in MATLAB files; with fewer images, they are the first of the larger set. The set is written
    beside `root` and renamed when complete.

    Args:
        root: folder to write; a sample data set there that was written with other arguments is
            replaced, if the folder holds nothing else.
        seed: >= 0.
        train, val: images in the two splits, 1..1,000,000; for "nyud", whose trainval has two
            halves, train is >= 2.
        size: longer side of the pictures in pixels, 32..4096; the shorter is 3/4 of it.
        layout: one of `LAYOUTS`. It has these classes in place of its own, and "nyud",
            "nyud-mat" and "folder" have depth, "sift-flow" and "folder" the geometric labels, too.
        advance: called after each image.

    Returns:
        `root`.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if an argument is out of range.
        DataError: if `root` exists and is not a sample data set or holds more than that, or cannot
            be written.
    """
    root = Path(root)
    for name, value, least in (("seed", seed, 0), ("train", train, 1), ("val", val, 1)):
        if not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}")
    for name, value in (("train", train), ("val", val)):
        if value > _MAX_IMAGES:
            raise ValueError(f"{name} must be <= {_MAX_IMAGES}, got {value}")
    if not isinstance(size, int):
        raise TypeError(f"size must be an integer, got {size!r}")
    if not 32 <= size <= _MAX_SIZE:
        raise ValueError(f"size must be in 32..{_MAX_SIZE}, got {size}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if train < LAYOUTS[layout].least_train:
        least = LAYOUTS[layout].least_train
        raise ValueError(f"train must be >= {least} for the layout {layout}, got {train}")
    manifest = {
        "generator": _GENERATOR,
        "version": _VERSION,
        "seed": seed,
        "train": train,
        "val": val,
        "size": size,
    }
    if layout != "voc":
        manifest["layout"] = layout
    if _read_manifest(root) == manifest:
        return root
    _refuse_foreign(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            _write(workshop / "new", manifest, advance)
            if root.exists():
                root.rename(workshop / "old")
            (workshop / "new").rename(root)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as error:
        message = f"cannot be written ({error.strerror}); name a folder with space and permission"
        raise DataError(Problem(root, message)) from error
    return root


def _write(folder: Path, manifest: dict[str, Any], advance: Callable[[], object]) -> None:
    folder.mkdir(parents=True)
    layout = _layout_of(manifest)
    layout.write(folder, _scenes(manifest, layout.one_size, advance))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="ascii")


def _scenes(
    manifest: dict[str, Any], one_size: bool, advance: Callable[[], object]
) -> Iterator[Scene]:
    """Every picture, those of train first; ``advance`` is called before the next one."""
    place = 0
    for number, split in enumerate(("train", "val")):
        deck = _Deck(np.random.default_rng((manifest["seed"], number)))
        for index in range(manifest[split]):
            rng = np.random.default_rng((manifest["seed"], number, index))
            sides = [manifest["size"] * 3 // 4, manifest["size"]]
            upright = rng.random() < 0.25 and not one_size
            height, width = sides[:: -1 if upright else 1]
            example = draw_scene(deck.deal(), height, width, rng)
            yield Scene(split, f"{split}_{index:06d}", place, example)
            advance()
            place += 1


def _layout_of(manifest: dict[str, Any]) -> Layout:
    return LAYOUTS[manifest.get("layout", "voc")]


class _Deck:
    """Deals the object classes 1..20 so that all occur equally often."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._cards: list[int] = []

    def deal(self) -> list[int]:
        """The classes of the next image, two to five of them."""
        count = int(self._rng.integers(2, 6))
        while len(self._cards) < count:
            self._cards += (1 + self._rng.permutation(len(SAMPLE_CLASS_NAMES) - 1)).tolist()
        dealt, self._cards = self._cards[:count], self._cards[count:]
        return dealt


def is_sample(root: Path) -> bool:
    """Whether `write_sample_dataset` wrote this folder, in the layout of `SampleDataset`."""
    manifest = _own_manifest(root)
    return manifest is not None and _layout_of(manifest) is LAYOUTS["voc"]


def _own_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of a folder that `write_sample_dataset` wrote."""
    manifest = _read_manifest(root)
    if not isinstance(manifest, dict) or manifest.get("generator") != _GENERATOR:
        return None
    return manifest if manifest.get("layout", "voc") in LAYOUTS else None


def _read_manifest(root: Path) -> Any:
    try:
        return parse_json((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_foreign(root: Path) -> None:
    """Raise if `root` holds what `write_sample_dataset` did not write."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    manifest = _own_manifest(root)
    if manifest is None:
        message = "exists and is not a sample data set; name another folder"
        raise DataError(Problem(root, message))
    known = {MANIFEST, *_layout_of(manifest).contents}
    others = sorted(path.name for path in root.iterdir() if path.name not in known)
    if others:
        message = f"holds more than an older sample data set ({shortened(others, 3)}); name another"
        raise DataError(Problem(root, message))
