"""PASCAL-Context, from small files in the original format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fcn_train.data import (
    PASCAL_CONTEXT_33_CLASS_NAMES,
    PASCAL_CONTEXT_CLASS_NAMES,
    DataError,
    PascalContext,
    open_dataset,
)

VALUES = {0: 0, 1: 0, 2: 1, 3: 11, 4: 28, 5: 52}  # of the list below


@pytest.fixture
def context_root(tmp_path: Path, write_matlab_pair: Callable[..., None]) -> Path:
    root = tmp_path / "context"
    others = [name for name in PASCAL_CONTEXT_CLASS_NAMES[2:]]
    for name in ("diningtable", "clothes", "bedcloth"):
        others.remove(name)
    names = ["accordion", "aeroplane", "table", "cloth", "bedclothes", *others]
    lines = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    values = np.array([list(VALUES)], dtype=np.uint16)
    year = root / "VOCdevkit" / "VOC2010"
    image = year / "JPEGImages" / "2008_000002.jpg"
    write_matlab_pair(image, root / "trainval" / "2008_000002.mat", {"LabelMap": values}, (6, 1))
    (root / "labels.txt").write_text("\n".join(lines))
    (year / "ImageSets" / "Main").mkdir(parents=True)
    (year / "ImageSets" / "Main" / "train.txt").write_text("2008_000002\n")
    return root


def test_class_names_of_pascal_context_are_the_published_ones(shared_data: Path) -> None:
    published = shared_data / "fcn_lists" / "data" / "pascal-context" / "classes-59.txt"
    numbered = [line.split(": ")[1] for line in published.read_text().splitlines() if line]
    assert list(PASCAL_CONTEXT_CLASS_NAMES) == numbered


def test_pascal_context_merges_its_values_by_name(context_root: Path) -> None:
    assert [PASCAL_CONTEXT_CLASS_NAMES[i] for i in (11, 28, 52)] == [
        "diningtable",
        "clothes",
        "bedcloth",
    ]
    dataset = open_dataset("pascal-context", context_root, "train")
    assert dataset.num_classes == 60
    assert dataset[0].label.ravel().tolist() == list(VALUES.values())


def test_pascal_context_with_33_classes(context_root: Path) -> None:
    assert len(PASCAL_CONTEXT_33_CLASS_NAMES) == 34  # with background
    assert set(PASCAL_CONTEXT_33_CLASS_NAMES) < set(PASCAL_CONTEXT_CLASS_NAMES)
    finer = open_dataset("pascal-context", context_root, "train")
    dataset = open_dataset("pascal-context-33", context_root, "train")
    assert dataset.class_names == PASCAL_CONTEXT_33_CLASS_NAMES
    # All values that the list names, each where its class of the 59 is, or else background.
    values = np.array([range(1, 60)], dtype=np.uint16)
    savemat(context_root / "trainval" / "2008_000002.mat", {"LabelMap": values})
    image = context_root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000002.jpg"
    Image.new("RGB", (59, 1)).save(image)
    names = [PASCAL_CONTEXT_CLASS_NAMES[index] for index in finer[0].label.ravel()]
    expected = [name if name in PASCAL_CONTEXT_33_CLASS_NAMES else "background" for name in names]
    found = [PASCAL_CONTEXT_33_CLASS_NAMES[index] for index in dataset[0].label.ravel()]
    assert found == expected
    assert len(set(found)) == 34


def test_pascal_context_prefers_the_year_it_was_made_on(context_root: Path) -> None:
    later = context_root / "VOCdevkit" / "VOC2012" / "JPEGImages"
    later.mkdir(parents=True)
    dataset = PascalContext(context_root, "train")
    assert dataset.image_path(0).parts[-3:] == ("VOC2010", "JPEGImages", "2008_000002.jpg")


def test_pascal_context_asks_for_its_list_of_values(context_root: Path) -> None:
    listing = context_root / "labels.txt"
    listing.write_text(listing.read_text().replace("wood", "wool"))
    with pytest.raises(DataError, match=r"labels\.txt: does not name 'wood'; give"):
        PascalContext(context_root)
    published = "\n".join(f"{n}: {name}" for n, name in enumerate(["accordion", "aeroplane"], 1))
    for line, message in (
        ("accordion", r"has a line that is not `1\.\.459: name`: 'accordion'"),
        ("\N{SUPERSCRIPT TWO}: sky", r"has a line that is not `1\.\.459: name`"),
        ("0: sky", r"has a line that is not `1\.\.459: name`"),
        ("99999999999999: sky", r"has a line that is not `1\.\.459: name`"),
        ("3: aeroplane", "names a value or a class twice: '3: aeroplane'"),
        ("2: sky", "names a value or a class twice: '2: sky'"),
    ):
        listing.write_text(f"{published}\n{line}\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"labels\.txt: {message}"):
            PascalContext(context_root)
    listing.unlink()
    with pytest.raises(DataError, match=r"labels\.txt: list of the values of LabelMap cannot"):
        PascalContext(context_root)


def test_published_list_of_values_names_all_classes(context_root: Path, shared_data: Path) -> None:
    published = shared_data / "fcn_lists" / "data" / "pascal-context" / "classes-400.txt"
    shutil.copy(published, context_root / "labels.txt")
    listed = [line.split(": ") for line in published.read_text().splitlines() if ": " in line]
    values = np.array([[int(number) for number, _ in listed]], dtype=np.uint16)
    savemat(context_root / "trainval" / "2008_000002.mat", {"LabelMap": values})
    Image.new("RGB", (len(listed), 1)).save(
        context_root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000002.jpg"
    )
    label = PascalContext(context_root)[0].label.ravel().tolist()
    renamed = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    for (_, name), index in zip(listed, label, strict=True):
        name = renamed.get(name, name)
        expected = name if name in PASCAL_CONTEXT_CLASS_NAMES else "background"
        assert PASCAL_CONTEXT_CLASS_NAMES[index] == expected
    assert len(set(label)) == 60


def test_pascal_context_names_the_folders_it_lacks(context_root: Path) -> None:
    shutil.rmtree(context_root / "trainval")
    shutil.rmtree(context_root / "VOCdevkit")
    problems = PascalContext(context_root, strict=False).problems
    assert [problem.path.name for problem in problems] == ["JPEGImages", "trainval", "train.txt"]
