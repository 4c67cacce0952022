from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import (
    SAMPLE_CLASS_NAMES,
    DataError,
    check_dataset,
    dataset_statistics,
    open_dataset,
    sample,
    write_sample_dataset,
)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_seed_gives_the_same_bytes(sample_root: Path, tmp_path: Path) -> None:
    again = write_sample_dataset(tmp_path / "again", seed=3, train=12, val=10, size=64)
    assert digests(again) == digests(sample_root)


def test_other_seed_gives_other_pictures(sample_root: Path, tmp_path: Path) -> None:
    other = write_sample_dataset(tmp_path / "other", seed=4, train=2, val=1, size=64)
    name = "JPEGImages/train_000000.jpg"
    assert digests(other)[name] != digests(sample_root)[name]


def test_fewer_images_are_the_first_of_more(sample_root: Path, tmp_path: Path) -> None:
    fewer = digests(write_sample_dataset(tmp_path / "few", seed=3, train=3, val=2, size=64))
    pictures = {name: digest for name, digest in fewer.items() if name.endswith(("jpg", "png"))}
    assert len(pictures) == 10
    assert pictures.items() <= digests(sample_root).items()


def test_layout_is_vocs(sample_root: Path) -> None:
    lists = sample_root / "ImageSets" / "Segmentation"
    train, val = ((lists / f"{split}.txt").read_text().split() for split in ("train", "val"))
    assert (len(train), len(val), len({*train, *val})) == (12, 10, 22)
    assert (lists / "trainval.txt").read_text().split() == train + val
    for image_id in train + val:
        with Image.open(sample_root / "JPEGImages" / f"{image_id}.jpg") as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert sorted(image.size) == [48, 64]
        with Image.open(sample_root / "SegmentationClass" / f"{image_id}.png") as label:
            assert (label.format, label.mode, label.size) == ("PNG", "P", image.size)
            assert label.getpalette() == voc_palette().ravel().tolist()
    assert tuple((sample_root / "classes.txt").read_text().splitlines()) == SAMPLE_CLASS_NAMES
    assert len(set(SAMPLE_CLASS_NAMES)) == 21


def test_it_opens_as_voc_as_well(sample_root: Path) -> None:
    as_voc = open_dataset("voc", sample_root, "val")
    as_sample = open_dataset("sample", sample_root, "val")
    assert as_sample.class_names == SAMPLE_CLASS_NAMES
    assert as_voc.ids == as_sample.ids
    assert np.array_equal(as_voc[0].label, as_sample[0].label)


@pytest.mark.parametrize("split", ["train", "val"])
def test_it_is_sound_and_holds_all_classes(sample_root: Path, split: str) -> None:
    dataset = open_dataset("sample", sample_root, split)
    assert check_dataset(dataset) == []
    statistics = dataset_statistics(dataset)
    assert (statistics.images > 0).all()
    assert 0.5 < statistics.pixels[0] / statistics.pixels.sum() < 0.95


def test_objects_are_bordered_by_void(sample_root: Path) -> None:
    """No two different labels touch sideways or vertically unless one of them is void."""
    dataset = open_dataset("sample", sample_root, "trainval")
    assert 0.02 < dataset_statistics(dataset).void_share < 0.3
    for index in range(len(dataset)):
        label = dataset[index].label
        for first, second in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            assert ((first == second) | (first == 255) | (second == 255)).all()


def test_color_alone_does_not_tell_the_class(tmp_path: Path) -> None:
    """The best rule from a pixel's color to its class, learnt on one split, fails on the other."""
    root = write_sample_dataset(tmp_path / "data", train=40, val=20, size=64)
    votes = np.zeros((16**3, 21), dtype=np.int64)
    matrix = np.zeros((21, 21), dtype=np.int64)
    for split in ("train", "val"):
        dataset = open_dataset("sample", root, split)
        for index in range(len(dataset)):
            image, label = dataset[index]
            color = ((image // 16).astype(np.int64) @ (256, 16, 1))[label != 255]
            label = label[label != 255]
            if split == "train":
                np.add.at(votes, (color, label), 1)
            else:
                np.add.at(matrix, (label, votes.argmax(axis=1)[color]), 1)
    hits = matrix.diagonal()
    iu = hits / (matrix.sum(axis=0) + matrix.sum(axis=1) - hits)
    assert iu[0] > 0.7
    assert iu.mean() < 0.3


def test_same_arguments_leave_the_files_alone(sample_root: Path) -> None:
    path = sample_root / "JPEGImages" / "train_000000.jpg"
    before = path.stat().st_mtime_ns
    write_sample_dataset(sample_root, seed=3, train=12, val=10, size=64)
    assert path.stat().st_mtime_ns == before


def test_other_arguments_replace_the_data_set(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_sample_dataset(root, train=2, val=1, size=32)
    write_sample_dataset(root, train=1, val=1, size=48)
    assert len(list((root / "JPEGImages").iterdir())) == 2
    assert json.loads((root / "sample.json").read_text())["size"] == 48
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_interrupted_writing_leaves_the_old_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    write_sample_dataset(root, train=1, val=1, size=32)
    before = digests(root)
    drawn = []

    def interrupted(*arguments: object) -> None:
        drawn.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_sample_dataset(root, train=2, val=1, size=32)
    with pytest.raises(KeyboardInterrupt):
        write_sample_dataset(tmp_path / "new", train=2, val=1, size=32)
    assert len(drawn) == 2
    assert digests(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_folder_that_holds_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="exists and is not a sample data set; name another"):
        write_sample_dataset(tmp_path, train=1, val=1, size=32)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"generator": "my own"}'])
def test_a_foreign_sample_json_makes_no_sample(tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.json").write_text(text)
    with pytest.raises(DataError, match="exists and is not a sample data set"):
        write_sample_dataset(tmp_path, train=1, val=1, size=32)
    with pytest.raises(DataError, match="no sample data set"):
        open_dataset("sample", tmp_path, "train")
    assert (tmp_path / "sample.json").read_text() == text


def test_files_added_to_a_sample_are_never_removed(tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", train=1, val=1, size=32)
    (root / "notes.txt").write_text("precious")
    write_sample_dataset(root, train=1, val=1, size=32)
    with pytest.raises(DataError, match=r"holds more than an older sample .*notes\.txt.*another"):
        write_sample_dataset(root, train=2, val=1, size=32)
    assert (root / "notes.txt").read_text() == "precious"


def test_root_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written \(.+\); name a folder"):
        write_sample_dataset(tmp_path / "file" / "data", train=1, val=1, size=32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"train": 0}, "train must be >= 1, got 0"),
        ({"val": 0}, "val must be >= 1, got 0"),
        ({"train": 10**24}, "train must be <= 1000000, got 1000000000000000000000000"),
        ({"val": 1_000_001}, "val must be <= 1000000, got 1000001"),
        ({"train": 1, "layout": "nyud"}, "train must be >= 2 for the layout nyud, got 1"),
        ({"size": 16}, r"size must be in 32\.\.4096, got 16"),
        ({"size": 5000}, r"size must be in 32\.\.4096, got 5000"),
    ],
)
def test_arguments_out_of_range_are_named(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_sample_dataset(tmp_path / "data", **arguments)


@pytest.mark.parametrize("name", ["seed", "train", "val", "size"])
@pytest.mark.parametrize("value", [64.5, "64", None])
def test_numbers_that_are_no_integers_are_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, got {value!r}"):
        write_sample_dataset(tmp_path / "data", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_opening_what_was_never_written_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sample\.json: is missing.*`fcn data sample`"):
        open_dataset("sample", tmp_path, "train")
