from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fcn_train.data import IGNORE_INDEX, DataError, Problem, open_dataset


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


def test_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of sample, voc.*got 'coco'"):
        open_dataset("coco", tmp_path, "train")


def test_option_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_classes does not apply to data of kind 'voc'"):
        open_dataset("voc", tmp_path, "train", num_classes=3)
