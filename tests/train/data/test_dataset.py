"""What every data set does, whatever its layout."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fcn_train.data import (
    IGNORE_INDEX,
    IMAGENET,
    DataError,
    FolderSegmentation,
    LabelCoding,
    LabelSet,
    MemoryDataset,
    Problem,
    SegmentationDataset,
    TrainLoader,
    augmentation,
    check_dataset,
    dataset_statistics,
    open_dataset,
)
from fcn_train.data.labels import PictureLabels


def test_data_error_survives_pickling() -> None:
    error = DataError(Problem(Path("a.png"), "is broken; mend it"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.png: is broken; mend it"
    assert again.problem == error.problem


def test_examples_are_indexed_and_counted(voc_root: Path) -> None:
    dataset = open_dataset("voc", voc_root, "train")
    image, label = dataset[1]
    assert (len(dataset), dataset.ids, dataset.num_classes) == (2, ["a", "b"], 21)
    assert image.shape == (8, 12, 3)
    assert label[3].tolist() == [IGNORE_INDEX] + [3] * 11
    assert dataset.image_path(1) == voc_root / "JPEGImages" / "b.jpg"
    assert dataset.label_path(1) == voc_root / "SegmentationClass" / "b.png"


@pytest.mark.parametrize("index", [slice(0, 1), "a", 1.0, None])
def test_indices_that_are_none(index: Any, voc_root: Path) -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        open_dataset("voc", voc_root, "train")[index]


def test_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of sample, voc.*got 'coco'"):
        open_dataset("coco", tmp_path, "train")


def test_option_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_classes does not apply to data of kind 'voc'"):
        open_dataset("voc", tmp_path, "train", num_classes=3)


def turned_pair(root: Path, orientation: int, height: int, width: int) -> Path:
    """An image whose EXIF tag turns it, with a label of its stored size, half 0 and half 1."""
    for name in ("images", "labels"):
        (root / name).mkdir()
    tag = Image.Exif()
    tag[0x112] = orientation
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(root / "images" / "a.png", exif=tag)
    label = np.zeros((height, width), dtype=np.uint8)
    label[0, 0] = 1
    Image.fromarray(label).save(root / "labels" / "a.png")
    return root


@pytest.mark.parametrize(
    ("orientation", "size"),
    [*((turn, (4, 6)) for turn in (2, 3, 4)), *((turn, (5, 5)) for turn in range(2, 9))],
)
def test_turns_that_no_size_tells_are_refused(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    root = turned_pair(tmp_path, orientation, *size)
    dataset = FolderSegmentation(root, num_classes=2)
    with pytest.raises(DataError, match=r"a\.png: has an EXIF tag .* --data\.exif stored or"):
        dataset[0]
    assert [problem.path.name for problem in check_dataset(dataset)] == ["a.png"]
    stored = FolderSegmentation(root, num_classes=2, exif="stored")[0]
    assert stored.image[0, 0, 0] == 255
    upright = FolderSegmentation(root, num_classes=2, exif="upright")[0]
    expected = ImageOps.exif_transpose(Image.open(root / "images" / "a.png"))
    assert np.array_equal(upright.image, np.array(expected))
    assert np.array_equal(upright.label, stored.label)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turns_that_the_size_tells_are_read_as_it_says(tmp_path: Path, orientation: int) -> None:
    root = turned_pair(tmp_path, orientation, 4, 6)
    assert FolderSegmentation(root, num_classes=2)[0].image.shape == (4, 6, 3)
    Image.new("L", (4, 6), 1).save(root / "labels" / "a.png")
    with pytest.raises(DataError, match=r"sides swapped.*--data\.exif upright"):
        FolderSegmentation(root, num_classes=2)[0]
    upright = FolderSegmentation(root, num_classes=2, exif="upright")[0]
    assert upright.image.shape == (6, 4, 3)


def test_examples_are_compared_by_their_pixels(voc_root: Path) -> None:
    dataset = open_dataset("voc", voc_root, "train")
    assert dataset[0] == dataset[0]
    assert dataset[0] != dataset[1]
    assert dataset[0] != 3


def test_a_label_alone_is_that_of_the_pair(voc_root: Path) -> None:
    dataset = open_dataset("voc", voc_root, "train")
    for which in (dataset, MemoryDataset(dataset)):
        assert np.array_equal(which.label(1), dataset[1].label)
        assert which.examine(1)[1] == []


def test_there_may_be_any_number_of_label_sets(voc_root: Path) -> None:
    """Here three: VOC's own labels, halves of them, and whether there is anything."""
    first = open_dataset("voc", voc_root, "train").label_sets[0]
    more = []
    for name, classes in (
        ("halves", {value: value // 11 for value in range(21)}),
        ("something", {value: min(value, 1) for value in range(21)}),
    ):
        coding = LabelCoding(classes=tuple(classes.items()))
        names = tuple(f"{name} {index}" for index in range(2))
        reader = PictureLabels(2, coding, first.palette)
        more.append(LabelSet(name, names, first.palette, reader, first.paths))
    dataset = SegmentationDataset(
        "VOC",
        ["a", "b"],
        [voc_root / "JPEGImages" / f"{name}.jpg" for name in "ab"],
        first.paths,
        class_names=first.class_names,
        palette=first.palette,
        source=voc_root,
        label_set="objects",
        more_labels=more,
    )
    assert [labels.name for labels in dataset.label_sets] == ["objects", "halves", "something"]
    label, halves, something = dataset[1].labels
    void = label == IGNORE_INDEX
    assert np.array_equal(halves, np.where(void, IGNORE_INDEX, label // 11))
    assert np.array_equal(something, np.where(void, IGNORE_INDEX, np.minimum(label, 1)))
    counts = np.zeros((3, 256), dtype=np.int64)
    problems = check_dataset(dataset, counts=counts)
    assert [problem.message for problem in problems] == [
        "halves labels hold pixels of one class alone, 'halves 0' (and void); give labels of two "
        "classes or more"
    ]
    assert (counts.sum(1) == counts[0].sum()).all()
    assert dataset_statistics(dataset.only(2)).class_names == ("something 0", "something 1")
    batch = next(TrainLoader(dataset, augmentation(crop=5), IMAGENET, batch_size=3).batches(0, 1))
    assert len(batch.more_targets) == 2
    valid = batch.targets != IGNORE_INDEX
    assert torch.equal(batch.more_targets[1][valid], batch.targets[valid].clamp(max=1))


def test_loader_processes_read_as_this_one_does(voc_root: Path) -> None:
    coding = LabelCoding(void=(0,))
    dataset = open_dataset("voc", voc_root, "train", coding=coding)
    again = pickle.loads(pickle.dumps(dataset))
    assert again[1] == dataset[1]
    assert again.reader.meaning == dataset.reader.meaning == [(0, 255)]
