"""A split's fingerprint: changed by what changes a run, unchanged by what does not."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.data import (
    FolderSegmentation,
    LabelCoding,
    MemoryDataset,
    VocSegmentation,
    fingerprint,
)


def of(root: Path, names: tuple[str, ...] = ("x", "y")) -> str:
    return fingerprint(VocSegmentation(root, "train", class_names=names))


def write_list(root: Path, text: str) -> None:
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(text)


def test_it_is_short_and_the_same_in_every_process(voc_root: Path) -> None:
    assert re.fullmatch("[0-9a-f]{16}", of(voc_root))
    assert of(voc_root) == "4fd888383edc17e8"


def test_place_and_pixels_of_the_files_change_nothing(voc_root: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(voc_root, tmp_path / "elsewhere" / "VOC2012"))
    (moved / "JPEGImages" / "a.jpg").write_bytes(b"other pixels")
    assert of(moved) == of(voc_root)


@pytest.mark.parametrize("text", ["b\na\n", "a\n", "a\nb\nc\n", "a\nc\n", "ab\n"])
def test_lists_that_name_other_images_or_another_order_differ(voc_root: Path, text: str) -> None:
    before = of(voc_root)
    write_list(voc_root, text)
    assert of(voc_root) != before


@pytest.mark.parametrize("names", [("y", "x"), ("x", "z"), ("x", "y", "z"), ("x",), ("xy",)])
def test_other_classes_differ(voc_root: Path, names: tuple[str, ...]) -> None:
    assert of(voc_root, names) != of(voc_root)


@pytest.mark.parametrize(
    "coding",
    [
        LabelCoding(void=(0,)),
        LabelCoding(first_class=1),
        LabelCoding(classes=((0, 0), (255, 1))),
        LabelCoding(classes=((0, 1), (1, 0))),
        LabelCoding(colors=(((0, 0, 0), 0), ((9, 9, 9), 1))),
        LabelCoding(colors=(((0, 0, 0), 1), ((9, 9, 9), 0))),
    ],
)
def test_another_meaning_of_the_labels_differs(voc_root: Path, coding: LabelCoding) -> None:
    def coded(coding: LabelCoding) -> str:
        names = ("x", "y")
        return fingerprint(VocSegmentation(voc_root, "train", class_names=names, coding=coding))

    assert coded(coding) != of(voc_root)
    assert coded(replace(coding)) == coded(coding)
    assert coded(LabelCoding(classes=((0, 0), (1, 1)))) == of(voc_root)


def test_a_data_set_in_memory_has_that_of_its_files(voc_root: Path) -> None:
    dataset = VocSegmentation(voc_root, "train")
    assert fingerprint(MemoryDataset(dataset)) == fingerprint(dataset)


def test_names_beyond_ascii_have_one(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "list.txt").write_text("straße\n", encoding="utf-8")
    dataset = FolderSegmentation(tmp_path, "list", class_names=("Weiß", "黒"))
    assert len(fingerprint(dataset)) == 16
