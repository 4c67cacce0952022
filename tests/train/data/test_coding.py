"""What values and colors of labels stand for, and how that is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn_ext.numpy import voc_palette
from fcn_train.data import DataError, LabelCoding, parse_label_map, read_label_colors


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("0=0,255=1", ((0, 0), (255, 1))),
        (" 3 = 1 ", ((3, 1),)),
        ("1 - 2 = 0 , 3=void", ((1, 0), (2, 0), (3, 255))),
        ("1-3=0,4=void", ((1, 0), (2, 0), (3, 0), (4, 255))),
        ("9=255", ((9, 255),)),
    ],
)
def test_label_map_is_read(text: str, pairs: object) -> None:
    assert parse_label_map(text) == pairs


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0=",
        "=1",
        "a=1",
        "0=0;1=1",
        "0=0,",
        "-1=0",
        "3-1=0",
        "1=x",
        "1 2=0",
        "1=1 2",
        "0=0 1=1",
    ],
)
def test_label_map_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="label-map must"):
        parse_label_map(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"void": (256,)}, r"void-label must be in 0\.\.255, got 256"),
        ({"void": (-1,)}, r"void-label must be in 0\.\.255, got -1"),
        ({"first_class": 300}, r"first-class must be in 0\.\.255, got 300"),
        ({"classes": ((300, 0),)}, r"label-map must be in 0\.\.255, got 300"),
        ({"classes": ((1, 0), (1, 1))}, "label-map gives 1 twice"),
        ({"classes": ((1, 0),), "void": (1,)}, "void-label 1 is in label-map, too"),
        ({"classes": ((1, 0),), "first_class": 1}, "label-map and first-class exclude each other"),
        ({"colors": "voc", "classes": ((1, 0),)}, "label-map and label-colors exclude each other"),
        ({"colors": "voc", "void": (1,)}, "void-label and label-colors exclude each other"),
        ({"colors": (((1, 2, 3), 0), ((1, 2, 3), 1))}, r"label-colors gives \(1, 2, 3\) twice"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelCoding(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"void": 255}, "void must be a sequence of integers, got 255"),
        ({"void": (1.5,)}, "void must be a sequence of integers"),
        ({"first_class": "1"}, "first_class must be an integer, got '1'"),
        ({"classes": {0: 0}}, "classes must be pairs of a value and its class, got {0: 0}"),
        ({"classes": "0=0"}, "classes must be pairs of a value and its class, got '0=0'"),
        ({"colors": "VOC"}, "colors must be 'voc', or pairs of a color and its class, got 'VOC'"),
        ({"colors": {(0, 0, 0): 0}}, "colors must be 'voc', or pairs"),
        ({"colors": (((0, 0), 0),)}, "colors must be 'voc', or pairs"),
    ],
)
def test_arguments_of_another_form_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        LabelCoding(**arguments)


def test_lists_and_arrays_are_as_good_as_tuples() -> None:
    """A list of colors was taken for none."""
    colors: Any = [([0, 0, 0], 0), (np.array([9, 9, 9]), 1)]
    assert LabelCoding(colors=colors) == LabelCoding(colors=(((0, 0, 0), 0), ((9, 9, 9), 1)))
    pairs: Any = np.array([[0, 0], [255, 1]])
    void: Any = [3]
    assert LabelCoding(void, classes=pairs) == LabelCoding((3,), classes=((0, 0), (255, 1)))
    with pytest.raises(ValueError, match=r"label-colors must be in 0\.\.255, got 300"):
        LabelCoding(colors=(((0, 300, 0), 0),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ((0, 0), (1, 2))}, r"label-map names class 2, but the classes are 0\.\.1"),
        ({"first_class": 254}, "first-class 254 leaves no value for the last of 2 classes"),
        ({"colors": (((0, 0, 0), 0),)}, "one color per class, got 1 for 2 classes"),
        (
            {"colors": tuple(((c, c, c), c) for c in range(3))},
            "one color per class, got 3 for 2 classes",
        ),
    ],
)
def test_coding_must_fit_the_classes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelCoding(**arguments).fitted(2)


def test_void_need_not_be_a_class() -> None:
    coding = LabelCoding(classes=((0, 255), (1, 1)), void=(7,))
    assert coding.fitted(2).meaning(2) == [(0, 255), (7, 255)]


@pytest.mark.parametrize("num_classes", [1, 2, 254, 255])
def test_values_are_classes_by_default(num_classes: int) -> None:
    table = LabelCoding().fitted(num_classes).table(num_classes)
    expected = [*range(num_classes), *[-1] * (255 - num_classes), 255]
    assert table.tolist() == expected
    assert LabelCoding().meaning(num_classes) == []


def test_colors_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "colors.txt"
    path.write_text("0 0 0\n128,64, 0\n#FF00fF\nvoid 224 224 192\nvoid: #ffffff\n")
    assert read_label_colors(path) == (
        ((0, 0, 0), 0),
        ((128, 64, 0), 1),
        ((255, 0, 255), 2),
        ((224, 224, 192), 255),
        ((255, 255, 255), 255),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red\n", "has a line that is no color: 'red'; write R G B or #RRGGBB"),
        ("1 2\n", "has a line that is no color"),
        ("1 2 300\n", r"has a color beyond 0\.\.255: '1 2 300'"),
        ("1 2 3\n1 2 3\n", "has the color '1 2 3' twice"),
        ("void 1 2 3\n", "0 of them of classes"),
        ("", "0 of them of classes"),
        ("\n".join(f"{i} 0 0\n{i} 1 0" for i in range(200)), "400 colors"),
    ],
)
def test_files_of_colors_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "colors.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_colors(path)


def test_pictures_take_the_colors_of_the_labels() -> None:
    assert LabelCoding().palette() is None
    palette = LabelCoding(colors=(((1, 2, 3), 0), ((4, 5, 6), 1), ((7, 8, 9), 255))).palette()
    assert palette is not None
    assert palette[[0, 1, 255]].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    voc = LabelCoding(colors="voc").fitted(21).palette()
    assert voc is not None
    assert np.array_equal(voc[:21], voc_palette()[:21])
