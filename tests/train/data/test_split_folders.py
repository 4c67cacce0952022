"""Cityscapes and ADE20K, from small files in the original layouts and from real ones."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import (
    ADE20K_CLASS_NAMES,
    CITYSCAPES_CLASS_NAMES,
    IGNORE_INDEX,
    Cityscapes,
    DataError,
    check_dataset,
    dataset_statistics,
    open_dataset,
)

TINY = (
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
    *("--optim.batch", "2", "--optim.steps", "2", "--threads", "1"),
)


def write_street(root: Path, split: str, city: str, number: int, ids: np.ndarray) -> None:
    name = f"{city}_{number:06d}_000019"
    for folder, kind, picture in (
        ("leftImg8bit", "leftImg8bit", Image.new("RGB", ids.shape[::-1], (10, 20, 30))),
        ("gtFine", "gtFine_labelIds", Image.fromarray(ids)),
        ("gtFine", "gtFine_color", Image.new("RGBA", ids.shape[::-1])),
    ):
        path = root / folder / split / city / f"{name}_{kind}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    """Every label id in each of three images of two cities, and one of val."""
    root = tmp_path / "cityscapes"
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for split, city, number in (
        *(("train", "zurich", 0), ("train", "aachen", 1), ("train", "aachen", 0)),
        ("val", "munster", 0),
    ):
        write_street(root, split, city, number, ids)
    return root


def test_train_ids_follow_from_label_ids(cityscapes_root: Path) -> None:
    dataset = open_dataset("cityscapes", cityscapes_root, "train")
    assert dataset.ids == ["aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"]
    assert dataset.num_classes == len(CITYSCAPES_CLASS_NAMES) == 19
    image, label = dataset[2]
    assert image[0, 0].tolist() == [10, 20, 30]
    void = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]  # of the published table
    scored = [label_id for label_id in range(34) if label_id not in void]
    assert label.ravel()[scored].tolist() == list(range(19))
    assert (label.ravel()[void] == IGNORE_INDEX).all()
    by_name = dict(zip(CITYSCAPES_CLASS_NAMES, range(19), strict=True))
    assert label.ravel()[[7, 23, 26, 33]].tolist() == [
        by_name[name] for name in ("road", "sky", "car", "bicycle")
    ]


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("train/aachen", 2), ("val", 1)])
def test_a_split_is_a_folder(cityscapes_root: Path, split: str, count: int) -> None:
    for root in (cityscapes_root, cityscapes_root.parent):
        dataset = open_dataset("cityscapes", root, split)
        assert len(dataset) == count
        assert check_dataset(dataset) == []


def test_coarse_labels_are_another_folder(cityscapes_root: Path) -> None:
    fine = next((cityscapes_root / "gtFine" / "val").rglob("*labelIds.png"))
    coarse = cityscapes_root / "gtCoarse" / "val" / "munster" / fine.name.replace("Fine", "Coarse")
    coarse.parent.mkdir(parents=True)
    shutil.copy(fine, coarse)
    dataset = open_dataset("cityscapes", cityscapes_root, "val", label_folder="gtCoarse")
    assert dataset.label_path(0) == coarse
    assert dataset[0] == open_dataset("cityscapes", cityscapes_root, "val")[0]


def test_cityscapes_names_what_is_wrong(cityscapes_root: Path) -> None:
    with pytest.raises(DataError, match=r"leftImg8bit/test: folder is missing; give a split that"):
        Cityscapes(cityscapes_root, "test")
    with pytest.raises(DataError, match=r"leftImg8bit/train: folder is missing; give the folder"):
        Cityscapes(cityscapes_root / "gtFine")
    label = next((cityscapes_root / "gtFine" / "val").rglob("*labelIds.png"))
    Image.fromarray(np.full((2, 17), 34, dtype=np.uint8)).save(label)
    with pytest.raises(DataError, match=r"values that Cityscapes has no class for: 34 in 34 pix"):
        Cityscapes(cityscapes_root, "val")[0]
    label.unlink()
    problems = check_dataset(Cityscapes(cityscapes_root, "val", strict=False))
    assert [problem.kind for problem in problems] == ["missing label"]


@pytest.fixture
def ade20k_root(tmp_path: Path) -> Path:
    root = tmp_path / "ADEChallengeData2016"
    values = np.arange(151, dtype=np.uint8)[None]
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        Image.new("RGB", (151, 1), (10, 20, 30)).save(root / "images" / split / f"{name}.jpg")
        Image.fromarray(values).save(root / "annotations" / split / f"{name}.png")
    return root


def test_ade20k_counts_from_one_and_its_zero_is_void(ade20k_root: Path) -> None:
    for root in (ade20k_root, ade20k_root.parent):
        for split, name in (("train", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
            dataset = open_dataset("ade20k", root, split)
            assert dataset.ids == [name]
            assert dataset[0].label.ravel().tolist() == [255, *range(150)]
    assert len(open_dataset("ade20k", ade20k_root, "")) == 2


def test_values_beyond_ade20k_are_named(ade20k_root: Path) -> None:
    path = ade20k_root / "annotations" / "training" / "ADE_train_00000001.png"
    Image.fromarray(np.full((1, 151), 151, dtype=np.uint8)).save(path)
    with pytest.raises(DataError, match="values that ADE20K has no class for: 151 in 151 pixels"):
        open_dataset("ade20k", ade20k_root, "train")[0]


def test_published_examples_of_ade20k(shared_data: Path, command: Callable[..., Any]) -> None:
    root = shared_data / "ade20k_sample"
    dataset = open_dataset("ade20k", root, "")
    assert dataset.ids == [f"ADE_val_0000000{number}" for number in (1, 2, 3)]
    statistics = dataset_statistics(dataset)
    stored = [
        np.asarray(Image.open(root / "sampleData" / "annotations" / f"{image_id}.png"))
        for image_id in dataset.ids
    ]
    counts = sum(np.bincount(label.ravel(), minlength=151) for label in stored)
    assert statistics.pixels.tolist() == counts[1:].tolist()  # type: ignore[index]
    assert statistics.void_pixels == counts[0]  # type: ignore[index]
    code, out, _ = command("data", "check", "--kind", "ade20k", "--root", root, "--split", "")
    assert (code, out) == (0, "ADE20K, all: 3 pairs, 0 problems\n")


def test_names_of_ade20k_are_the_published_ones(shared_data: Path) -> None:
    with (shared_data / "ade20k_sample" / "objectInfo150.csv").open() as file:
        listed = [row["Name"].replace(";", " ").split() for row in csv.DictReader(file)]
    assert len(set(ADE20K_CLASS_NAMES)) == len(listed) == 150
    for name, words in zip(ADE20K_CLASS_NAMES, listed, strict=True):
        assert set(name.split()) <= set(words)


@pytest.mark.usefixtures("no_pictures")
def test_the_program_trains_on_them(
    cityscapes_root: Path, ade20k_root: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    for kind, root, classes in (("cityscapes", cityscapes_root, 19), ("ade20k", ade20k_root, 150)):
        code, out, err = command("data", "check", "--kind", kind, "--root", root)
        assert code == 0, out + err
        run = tmp_path / kind
        data = ("--data.kind", kind, "--data.root", root)
        code, _, err = command("train", *data, *TINY, "--output", run)
        assert code == 0, err
        assert len((run / "per_class.csv").read_text().splitlines()) == classes + 1


@pytest.fixture(params=["cityscapes", "ade20k"])
def split_folders(
    request: pytest.FixtureRequest, cityscapes_root: Path, tmp_path: Path
) -> tuple[str, Path, list[Path]]:
    """A kind, its root, and its images of train."""
    if request.param == "cityscapes":
        root = cityscapes_root
        return "cityscapes", root, sorted((root / "leftImg8bit" / "train").rglob("*.png"))
    root = tmp_path / "ade20k"
    for folder, ending in (("images", "jpg"), ("annotations", "png")):
        (root / folder / "training").mkdir(parents=True)
        for number in range(3):
            path = root / folder / "training" / f"ADE_train_0000000{number}.{ending}"
            Image.new("RGB" if ending == "jpg" else "L", (9, 4), 7).save(path)
    return "ade20k", root, sorted((root / "images" / "training").iterdir())


def test_endings_in_upper_case_are_not_left_out(
    split_folders: tuple[str, Path, list[Path]],
) -> None:
    kind, root, images = split_folders
    before = open_dataset(kind, root, "train")
    problems = check_dataset(before)
    images[0].rename(images[0].with_suffix(images[0].suffix.upper()))
    label = before.label_path(1)
    label.rename(label.with_suffix(".PNG"))
    after = open_dataset(kind, root, "train")
    assert after.ids == before.ids
    assert check_dataset(after) == problems


def test_folders_that_are_links_are_searched_and_hidden_ones_are_not(
    split_folders: tuple[str, Path, list[Path]], tmp_path: Path
) -> None:
    kind, root, images = split_folders
    before = open_dataset(kind, root, "train")
    problems = check_dataset(before)
    for number, path in enumerate([images[0].parent, before.label_path(0).parent]):
        elsewhere = tmp_path / f"elsewhere-{number}"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(elsewhere)
    thumbnails = images[0].parent / ".thumbnails"
    thumbnails.mkdir()
    shutil.copy(images[1], thumbnails / f"t{images[1].name}")
    after = open_dataset(kind, root, "train")
    assert after.ids == before.ids
    assert check_dataset(after) == problems


def test_labels_without_an_image_are_named(split_folders: tuple[str, Path, list[Path]]) -> None:
    kind, root, images = split_folders
    label = open_dataset(kind, root, "train").label_path(1)
    images[1].unlink()
    with pytest.raises(DataError, match=f"{label}: label has no image {images[1]}; add it"):
        open_dataset(kind, root, "train")
    dataset = open_dataset(kind, root, "train", strict=False)
    assert [problem.kind for problem in dataset.problems] == ["label without an image"]
