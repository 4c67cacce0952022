"""Images that are trained on and scored: by their files, whatever their names and folders."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import FolderSegmentation, SegmentationDataset, overlap
from fcn_train.data.overlap import overlap_warning, shared_images
from fcn_train.options import DataOptions
from fcn_train.splits import Splits

Command = Callable[..., tuple[int, str, str]]
LISTS = {"train": "abcd", "val": "ef"}


def write_set(root: Path, names: str, seed: int) -> Path:
    """A data set of your own, whose images are all of one size in pixels and in bytes."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("sky\nland\n")
    for name in names:
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.bmp")
        label = rng.integers(0, 2, (20, 30), dtype=np.uint8)
        Image.fromarray(label).save(root / "labels" / f"{name}.png")
    for split, listed in LISTS.items():
        write_list(root, split, listed)
    return root


def write_list(root: Path, split: str, names: str) -> None:
    (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_set(tmp_path / "mine", "abcdef", seed=0)


def told(data: DataOptions) -> list[str]:
    """What `fcn train` says of the splits that it has opened."""
    said: list[str] = []
    Splits(data, pytest.fail).warn_of_overlap(said.append)
    return said


def opened(root: Path, split: str) -> SegmentationDataset:
    return FolderSegmentation(root, split)


@pytest.mark.parametrize(
    ("val", "shared"),
    [("ef", ""), ("aef", "a"), ("edbf", "db"), ("a", "a"), ("abcde", "abcd"), ("dcba", "dcba")],
)
def test_lists_that_share_images(val: str, shared: str, mine: Path, command: Command) -> None:
    """``train`` and ``data check`` say how many there are, and name the first."""
    write_list(mine, "val", val)
    assert shared_images(opened(mine, "train"), opened(mine, "val")) == list(shared)
    said = told(DataOptions(kind="folder", root=mine))
    code, _, err = command("data", "check", "--kind", "folder", "--root", mine)
    assert code == 0
    if not shared:
        assert (said, err) == ([], "")
        return
    are = "is" if len(shared) == 1 else "are"
    images = "image" if len(val) == 1 else "images"
    counted = f"{len(shared)} of {len(val)} {images} {are} in {mine}/train.txt, too"
    assert said == [overlap_warning(opened(mine, "train"), opened(mine, "val"))]
    assert said[0].startswith(
        f"{mine}/val.txt: {counted}, the first {shared[0]!r}; a score on images that were"
    )
    assert err == f"warning: {said[0]}\n"


@pytest.mark.parametrize("split", ["", "train", "val"])
def test_one_split_for_both_is_a_choice(split: str, mine: Path, command: Command) -> None:
    assert told(DataOptions(kind="folder", root=mine, train_split=split, val_split=split)) == []
    flags = ("data", "check", "--kind", "folder", "--root", mine, "--split")
    assert command(*flags, split, split)[2] == ""


def copied(mine: Path, other: Path) -> None:
    shutil.copy(mine / "images" / "a.bmp", other / "images" / "a.bmp")


def linked(mine: Path, other: Path) -> None:
    (other / "images" / "a.bmp").unlink()
    (other / "images" / "a.bmp").symlink_to(mine / "images" / "a.bmp")


def same_folder(mine: Path, other: Path) -> None:
    shutil.rmtree(other / "images")
    (other / "images").symlink_to(mine / "images")


@pytest.mark.parametrize(
    ("make", "shared"),
    [(None, ""), (copied, "a"), (linked, "a"), (same_folder, "abc")],
)
def test_another_set_to_score(
    make: Callable[[Path, Path], None] | None, shared: str, mine: Path, tmp_path: Path
) -> None:
    """Images of one name and of as many bytes are two, unless they are the same."""
    other = write_set(tmp_path / "other", "abcdef", seed=1)
    write_list(other, "val", "abcf")
    if make is not None:
        make(mine, other)
    said = told(DataOptions(kind="folder", root=mine, val_root=other))
    found = [
        re.sub(r".*val.txt: (\d) of 4 .* too, the first '(.)'.*", r"\1\2", line) for line in said
    ]
    assert found == ([f"{len(shared)}{shared[0]}"] if shared else [])


def test_the_same_folder_by_another_path(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mine)
    for root in (tmp_path / "link", mine / ".." / "mine", Path(os.path.relpath(mine))):
        assert shared_images(opened(mine, "train"), opened(root, "train")) == list("abcd")
        assert overlap_warning(opened(mine, "train"), opened(root, "train")) == ""


def test_images_of_one_file_are_told_apart_by_their_names(mine: Path) -> None:
    train, val = opened(mine, "train"), opened(mine, "val")
    for dataset in (train, val):
        dataset._images = [mine / "labeled.mat"] * len(dataset)
    assert shared_images(train, val) == []
    val.ids[1] = "c"
    assert shared_images(train, val) == ["c"]


def test_a_missing_image_is_told_by_others(mine: Path, command: Command) -> None:
    write_list(mine, "val", "aef")
    (mine / "images" / "a.bmp").unlink()
    code, _, err = command("data", "check", "--kind", "folder", "--root", mine)
    assert code == 1
    assert "val.txt: 1 of 3 images is in" in err


def test_splits_that_are_made_of_others(mine: Path, command: Command) -> None:
    """Of more than two, ``trainval`` holds all of ``train``, and is no mistake."""
    write_list(mine, "trainval", "abcdef")
    flags = ("data", "check", "--kind", "folder", "--root", mine, "--split", "train", "val")
    assert command(*flags, "trainval")[2] == ""
    write_list(mine, "val", "de")
    err = command(*flags, "trainval")[2]
    assert err.count("\n") == 1
    assert "val.txt: 1 of 2 images is in" in err


def test_train_says_so(mine: Path, command: Command, tmp_path: Path) -> None:
    """Not before it has refused lists that have changed."""
    write_list(mine, "val", "aef")
    flags = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "16")
    arguments = ("train", "--data.kind", "folder", "--data.root", mine, "--output", tmp_path / "r")
    err = command(*arguments, *flags, "--optim.batch", "2", "--optim.steps", "1")[2]
    assert "val.txt: 1 of 3 images is in" in err
    write_list(mine, "val", "abf")
    code, _, err = command("train", "--resume", tmp_path / "r", "--optim.steps", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert "the val split 'val' has changed" in err


def test_an_image_that_is_named_many_times_is_compared_once(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_set(tmp_path / "other", "a", seed=1)
    looks: list[Path] = []
    monkeypatch.setattr(overlap, "_alike", lambda one, *rest: looks.append(one))
    for root in (mine, other):
        write_list(root, "many", "a" * 500)
    first, second = (FolderSegmentation(root, "many", strict=False) for root in (mine, other))
    assert shared_images(first, second) == []
    assert len(looks) == 500
