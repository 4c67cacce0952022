"""Small data sets, written in the original formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fcn_ext.numpy import voc_palette
from fcn_train.data import write_sample_dataset
from tests.train.pages import draw_nothing


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample data set of 12 + 10 pictures, 64 pixels long."""
    root = tmp_path_factory.mktemp("sample") / "data"
    return write_sample_dataset(root, seed=3, train=12, val=10, size=64)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """VOC2012's folder with images a, b, c (train: a, b; val: c) of 9 x 7, 12 x 8 and 6 x 6."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for image_id, width, height in (("a", 9, 7), ("b", 12, 8), ("c", 6, 6)):
        write_pair(root, image_id, width, height)
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n\n")
    return root


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the folder above, without its finished run, which is of another sample data set."""
    draw_nothing(monkeypatch)


def write_pair(root: Path, image_id: str, width: int, height: int) -> np.ndarray:
    """A gray JPEG and a label whose rows are classes 0, 1, ... with void in the first column."""
    Image.new("RGB", (width, height), (90, 90, 90)).save(root / "JPEGImages" / f"{image_id}.jpg")
    label = np.repeat(np.arange(height, dtype=np.uint8)[:, None], width, axis=1)
    label[:, 0] = 255
    save_label(root / "SegmentationClass" / f"{image_id}.png", label)
    return label


def save_label(path: Path, label: np.ndarray) -> None:
    picture = Image.fromarray(label)
    picture.putpalette(voc_palette().tobytes())
    picture.save(path)


@pytest.fixture
def write_label() -> Callable[[Path, np.ndarray], None]:
    """Saves (H, W) uint8 indices as a palette PNG."""
    return save_label


@pytest.fixture
def write_matlab_pair() -> Callable[..., None]:
    """Saves an image of one color, (width, height), and a label file of these variables."""

    def write(image: Path, label: Path, content: dict[str, Any], size: tuple[int, int]) -> None:
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (10, 20, 30)).save(image)
        savemat(label, content)

    return write
