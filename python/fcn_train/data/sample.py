"""The embedded data set: generated pictures in PASCAL VOC's own layout, so that a first run needs
no download and goes through the same reader as VOC itself."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data.problems import DataError, Problem, shortened
from fcn_train.data.scene import SAMPLE_CLASS_NAMES, draw_scene
from fcn_train.data.voc import VocSegmentation

MANIFEST = "sample.json"
_GENERATOR = "fcn_train sample data set"
_CONTENTS = {"JPEGImages", "SegmentationClass", "ImageSets", "classes.txt", MANIFEST}
_VERSION = 1  # raised whenever the same seed draws other pictures
_MAX_SIZE = 4096


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
    root: Path | str, *, seed: int = 0, train: int = 320, val: int = 80, size: int = 128
) -> Path:
    """Write the sample data set to `root`, unless the same one is there already.

    Layout: `JPEGImages/*.jpg`, `SegmentationClass/*.png` (palette, 255 = void),
    `ImageSets/Segmentation/{train,val,trainval}.txt`, `classes.txt`, and a manifest `sample.json`.
    The same arguments give the same bytes; fewer images are the first ones of more. It is written
    beside `root` and renamed when complete.

    Args:
        root: folder to write; an older sample data set of other arguments there is replaced, if it
            holds nothing else.
        seed: >= 0.
        train, val: images in the two splits, >= 1.
        size: longer side of the pictures in pixels, 32..4096; the shorter is 3/4 of it.

    Returns:
        `root`.

    Raises:
        ValueError: if an argument is out of range.
        DataError: if `root` exists and is no sample data set or holds more than one, or cannot be
            written.
    """
    root = Path(root)
    for name, value, least in (("seed", seed, 0), ("train", train, 1), ("val", val, 1)):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}")
    if not 32 <= size <= _MAX_SIZE:
        raise ValueError(f"size must be in 32..{_MAX_SIZE}, got {size}")
    manifest = {
        "generator": _GENERATOR,
        "version": _VERSION,
        "seed": seed,
        "train": train,
        "val": val,
        "size": size,
    }
    if _read_manifest(root) == manifest:
        return root
    _refuse_foreign(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            _write(workshop / "new", manifest)
            if root.exists():
                root.rename(workshop / "old")
            (workshop / "new").rename(root)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as error:
        message = f"cannot be written ({error.strerror}); name a folder with space and permission"
        raise DataError(Problem(root, message)) from error
    return root


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    palette = voc_palette().tobytes()
    ids: dict[str, list[str]] = {}
    for number, split in enumerate(("train", "val")):
        deck = _Deck(np.random.default_rng((manifest["seed"], number)))
        ids[split] = [f"{split}_{index:06d}" for index in range(manifest[split])]
        for index, image_id in enumerate(ids[split]):
            rng = np.random.default_rng((manifest["seed"], number, index))
            sides = [manifest["size"] * 3 // 4, manifest["size"]]
            height, width = sides[:: -1 if rng.random() < 0.25 else 1]
            image, label = draw_scene(deck.deal(), height, width, rng)
            picture = Image.fromarray(image)
            picture.save(folder / "JPEGImages" / f"{image_id}.jpg", quality=92)
            indices = Image.fromarray(label)
            indices.putpalette(palette)
            indices.save(folder / "SegmentationClass" / f"{image_id}.png")
    ids["trainval"] = ids["train"] + ids["val"]
    for split, names in ids.items():
        _write_lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", names)
    _write_lines(folder / "classes.txt", SAMPLE_CLASS_NAMES)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="ascii")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


class _Deck:
    """Deals the object classes 1..20 so that each comes as often as every other."""

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
    """Whether `write_sample_dataset` wrote this folder."""
    manifest = _read_manifest(root)
    return isinstance(manifest, dict) and manifest.get("generator") == _GENERATOR


def _read_manifest(root: Path) -> Any:
    try:
        return json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_foreign(root: Path) -> None:
    """Never replace what `write_sample_dataset` did not write."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not is_sample(root):
        message = "exists and is not a sample data set; name another folder"
        raise DataError(Problem(root, message))
    others = sorted(path.name for path in root.iterdir() if path.name not in _CONTENTS)
    if others:
        message = f"holds more than an older sample data set ({shortened(others, 3)}); name another"
        raise DataError(Problem(root, message))
