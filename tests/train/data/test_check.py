from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import DataError, Problem, VocSegmentation, check_dataset

SaveLabel = Callable[[Path, np.ndarray], None]


def problems_of(root: Path, split: str = "train") -> list[Problem]:
    return check_dataset(VocSegmentation(root, split, strict=False))


def load_all(root: Path) -> None:
    dataset = VocSegmentation(root, "train")
    for index in range(len(dataset)):
        dataset[index]


def assert_loading_says_the_same(root: Path, problems: list[Problem]) -> None:
    """Opening or loading stops with one of the problems that the check found."""
    with pytest.raises(DataError) as caught:
        load_all(root)
    assert caught.value.problem in problems
    assert str(caught.value) == str(caught.value.problem)


def test_sound_data_has_no_problems(voc_root: Path) -> None:
    calls: list[tuple[int, int]] = []
    dataset = VocSegmentation(voc_root, "train", strict=False)
    assert check_dataset(dataset, lambda done, total: calls.append((done, total))) == []
    assert calls == [(1, 2), (2, 2)]


def test_every_problem_of_every_file_is_found_at_once(
    voc_root: Path, write_label: SaveLabel
) -> None:
    (voc_root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\nc\nd\nb\n")
    image = voc_root / "JPEGImages" / "a.jpg"
    image.write_bytes(image.read_bytes()[:-40])
    label = np.full((3, 5), 21, dtype=np.uint8)
    write_label(voc_root / "SegmentationClass" / "b.png", label)
    Image.fromarray(voc_palette()[np.ones((6, 6), dtype=int)]).save(
        voc_root / "SegmentationClass" / "c.png"
    )
    problems = problems_of(voc_root)
    texts = [f"{problem.path.name}: {problem.message}" for problem in problems]
    expected = [
        "train.txt: names 'b' 2 times; keep one",
        "a.jpg: image cannot be decoded",
        "b.png: is 5 x 3 pixels but its image",
        "b.png: has label values outside 0..20 and 255 (void): 21 in 15 pixels, the first at row 0",
        "c.png: holds the palette's colors (RGB)",
        "d.jpg: image is missing; restore the file or take it off the list",
        "d.png: label is missing; restore the file or take it off the list",
        "b.png: is 5 x 3 pixels but its image",
        "b.png: has label values outside",
    ]
    assert len(texts) == len(expected)
    for text, start in zip(texts, expected, strict=True):
        assert text.startswith(start)
    assert_loading_says_the_same(voc_root, problems)


def test_value_out_of_range_tells_where_and_which(voc_root: Path, write_label: SaveLabel) -> None:
    label = np.zeros((7, 9), dtype=np.uint8)
    label[2, 5:8] = (21, 254, 21)
    write_label(voc_root / "SegmentationClass" / "a.png", label)
    (problem,) = problems_of(voc_root)
    assert problem.path == voc_root / "SegmentationClass" / "a.png"
    assert "(void): 21, 254 in 3 pixels, the first at row 2, column 5" in problem.message
    assert_loading_says_the_same(voc_root, [problem])


def test_many_values_out_of_range_are_cut_short(voc_root: Path, write_label: SaveLabel) -> None:
    write_label(
        voc_root / "SegmentationClass" / "a.png",
        np.arange(100, 163, dtype=np.uint8).reshape(7, 9),
    )
    (problem,) = problems_of(voc_root)
    assert "100, 101, 102, 103, 104, 105, 106, 107 and 55 more in 63 pixels" in problem.message


def test_swapped_sides_point_to_the_exif_rotation(voc_root: Path, write_label: SaveLabel) -> None:
    write_label(voc_root / "SegmentationClass" / "a.png", np.zeros((9, 7), dtype=np.uint8))
    (problem,) = problems_of(voc_root)
    assert "is 7 x 9 pixels but its image" in problem.message
    assert "EXIF" in problem.message
    assert_loading_says_the_same(voc_root, [problem])


def test_truncated_label_is_found(voc_root: Path) -> None:
    path = voc_root / "SegmentationClass" / "b.png"
    path.write_bytes(path.read_bytes()[:-30])
    (problem,) = problems_of(voc_root)
    assert problem.path == path
    assert problem.message.startswith("label cannot be decoded")
    assert_loading_says_the_same(voc_root, [problem])


def test_empty_list_is_found(voc_root: Path) -> None:
    path = voc_root / "ImageSets" / "Segmentation" / "train.txt"
    path.write_text("\n \n")
    problems = problems_of(voc_root)
    assert problems == [Problem(path, "names no image; give another list or folder")]
    assert_loading_says_the_same(voc_root, problems)


def test_missing_folder_and_list_are_found_together(tmp_path: Path) -> None:
    problems = problems_of(tmp_path)
    assert [problem.path.name for problem in problems] == [
        "JPEGImages",
        "SegmentationClass",
        "train.txt",
    ]
    assert_loading_says_the_same(tmp_path, problems)
