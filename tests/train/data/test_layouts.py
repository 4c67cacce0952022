"""Which kind a folder looks like, and what is said where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.data import DataError, open_dataset
from fcn_train.data.layouts import looks_like, which_kind

LAYOUTS = [
    ("sbd", ("img", "cls")),
    ("sbd", ("benchmark_RELEASE/dataset/img", "benchmark_RELEASE/dataset/cls")),
    ("nyud", ("data/images", "segmentation")),
    ("sift-flow", ("SiftFlowDataset/Images", "SiftFlowDataset/SemanticLabels")),
    ("camvid", ("train", "trainannot")),
    ("voc", ("JPEGImages", "SegmentationClass")),
    ("voc", ("VOCdevkit/VOC2012/JPEGImages",)),
    ("cityscapes", ("leftImg8bit", "gtFine")),
    ("ade20k", ("images", "annotations")),
    ("ade20k", ("ADEChallengeData2016/images", "ADEChallengeData2016/annotations")),
    ("folder", ("images", "labels")),
    ("folder", ("train/images", "train/labels")),
]


@pytest.mark.parametrize(("kind", "folders"), LAYOUTS)
def test_a_layout_tells_its_kind(kind: str, folders: tuple[str, ...], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    if kind == "camvid":
        (tmp_path / "train.txt").write_text("")
    assert looks_like(tmp_path) == [kind]
    assert f"looks like --kind {kind}" in which_kind(tmp_path, "--")


def test_pascal_context_is_told_from_the_voc_2010_beside_it(tmp_path: Path) -> None:
    for folder in ("trainval", "VOC2010/JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "labels.txt").write_text("")
    assert looks_like(tmp_path) == ["pascal-context", "pascal-context-33"]


def test_the_labeled_file_of_nyud_is_told(tmp_path: Path) -> None:
    (tmp_path / "nyu_depth_v2_labeled.mat").write_text("")
    assert looks_like(tmp_path) == ["nyud"]


def test_the_sample_is_known_by_its_manifest(sample_root: Path) -> None:
    assert looks_like(sample_root) == ["sample"]


def test_the_rest_is_not_guessed(tmp_path: Path) -> None:
    assert looks_like(tmp_path) == looks_like(tmp_path / "absent") == []
    text = which_kind(tmp_path, "--data.")
    assert "--data.kind, one of sample, voc" in text
    assert "folder (images, labels, classes.txt)" in text


@pytest.mark.parametrize("kind", ["sbd", "nyud", "sift-flow"])
def test_missing_folders_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder is missing; give the folder that holds"):
        open_dataset(kind, tmp_path, "train")
    assert len(open_dataset(kind, tmp_path, "train", strict=False).problems) >= 2
