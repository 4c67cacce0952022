"""NYUDv2 as the authors of FCN prepared it, from small files in the original format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import (
    NYUD_CLASS_NAMES,
    DataError,
    Nyud,
    open_dataset,
)


@pytest.fixture
def nyud_root(tmp_path: Path, write_matlab_pair: Callable[..., None]) -> Path:
    """Images, depth and HHA in `data`, labels and lists beside it, as the reference implementation
    reads them."""
    root = tmp_path / "nyud"
    values = np.arange(42, dtype=np.uint8).reshape(6, 7)
    values[-1, -1] = 0
    for number in ("5449", "6140"):
        image = root / "data" / "images" / f"img_{number}.png"
        label = root / "segmentation" / f"img_{number}.mat"
        write_matlab_pair(image, label, {"segmentation": values}, (7, 6))
        for folder, picture in (
            ("depth", Image.fromarray(np.full((6, 7), int(number), dtype=np.uint16))),
            ("hha", Image.new("RGB", (7, 6), (50, 60, 70))),
        ):
            (root / "data" / folder).mkdir(exist_ok=True)
            picture.save(root / "data" / folder / f"img_{number}.png")
    (root / "train.txt").write_text("5449\n")
    (root / "test.txt").write_text("6140\n")
    return root


def test_class_names_of_nyud_are_the_published_ones(shared_data: Path) -> None:
    published = shared_data / "fcn_lists" / "data" / "nyud" / "classes.txt"
    assert list(NYUD_CLASS_NAMES) == published.read_text().splitlines()[:40]


def test_nyud_counts_from_one_and_its_zero_is_void(nyud_root: Path) -> None:
    for split, name in (("train", "5449"), ("test", "6140")):
        dataset = open_dataset("nyud", nyud_root, split)
        assert dataset.ids == [name]
        assert dataset.num_classes == len(NYUD_CLASS_NAMES) == 40
        assert dataset[0].label.ravel().tolist() == [255, *range(40), 255]


def test_folders_of_nyud_may_lie_side_by_side(nyud_root: Path) -> None:
    for name in ("segmentation", "train.txt"):
        shutil.move(nyud_root / name, nyud_root / "data" / name)
    for root in (nyud_root, nyud_root / "data"):
        assert open_dataset("nyud", root, "train")[0].label[0, 1] == 0


@pytest.mark.parametrize("channels", ["color", "hha", "color-depth", "color-hha"])
def test_nyud_has_depth_and_hha(nyud_root: Path, channels: str) -> None:
    example = open_dataset("nyud", nyud_root, "test", channels=channels)[0]
    assert (example.depth is not None) == ("depth" in channels)
    assert (example.hha is not None) == ("hha" in channels)
    if example.depth is not None:
        assert (example.depth == 6140).all()
    if example.hha is not None:
        assert (example.hha == (50, 60, 70)).all()


def test_trainval_of_nyud_is_both_lists(nyud_root: Path) -> None:
    (nyud_root / "val.txt").write_text("6140\n")
    assert open_dataset("nyud", nyud_root, "trainval").ids == ["5449", "6140"]
    (nyud_root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: list of images cannot be read"):
        open_dataset("nyud", nyud_root, "trainval")
    (nyud_root / "trainval.txt").write_text("6140\n")
    assert open_dataset("nyud", nyud_root, "trainval").ids == ["6140"]


def test_published_lists_of_nyud_are_795_together(nyud_root: Path, shared_data: Path) -> None:
    for split in ("train", "val"):
        shutil.copy(shared_data / "fcn_lists" / "data" / "nyud" / f"{split}.txt", nyud_root)
    dataset = open_dataset("nyud", nyud_root, "trainval")
    assert len(dataset) == len(set(dataset.ids)) == 795


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_published_lists_of_nyud_name_the_files(
    nyud_root: Path, shared_data: Path, split: str
) -> None:
    listing = shared_data / "fcn_lists" / "data" / "nyud" / f"{split}.txt"
    dataset = Nyud(nyud_root, str(listing))
    assert len(dataset) == {"train": 381, "val": 414, "test": 654}[split]
    assert dataset.label_path(0).name == f"img_{dataset.ids[0]}.mat"


def test_depth_of_another_size_is_named(nyud_root: Path, command: Callable[..., Any]) -> None:
    path = nyud_root / "data" / "depth" / "img_6140.png"
    Image.fromarray(np.ones((6, 8), dtype=np.uint16)).save(path)
    flags = ("--kind", "nyud", "--root", nyud_root, "--split", "test")
    assert command("data", "check", *flags)[0] == 0
    code, out, _ = command("data", "check", *flags, "--channels", "color-depth")
    assert code == 1
    image = nyud_root / "data" / "images" / "img_6140.png"
    assert out.startswith(f"{path}: is 8 x 6 pixels but its image {image} is 7 x 6; give both")
    path.unlink()
    code, out, _ = command("data", "check", *flags, "--channels", "color-depth")
    assert code == 1
    assert out.startswith(f"{path}: depth image is missing; restore the file or take it off")
    shutil.rmtree(nyud_root / "data" / "hha")
    with pytest.raises(DataError, match=r"hha: folder is missing; write it .* fcn data hha"):
        open_dataset("nyud", nyud_root, "test", channels="hha")
