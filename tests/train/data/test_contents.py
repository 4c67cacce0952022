"""Whether there is something to learn or to score, found without decoding everything."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn_train.data import (
    ClassWatch,
    DataError,
    Example,
    FolderSegmentation,
    LabelCoding,
    MemoryDataset,
    Problem,
    SegmentationDataset,
    absent_classes,
    check_dataset,
    check_split,
)

Labels = Sequence[Sequence[int]]


def folder(root: Path, labels: Labels, names: Sequence[str] = ("ground", "thing", "sky")) -> Path:
    """Images of a row of pixels each, with these values in their labels."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    for index, values in enumerate(labels):
        label = np.array([values], dtype=np.uint8)
        Image.fromarray(label).save(root / "labels" / f"{index:03d}.png")
        Image.new("RGB", label.shape[::-1]).save(root / "images" / f"{index:03d}.png")
    return root


def refused(dataset: SegmentationDataset, *, training: bool) -> str:
    with pytest.raises(DataError) as caught:
        check_split(dataset, training=training, warn=pytest.fail)
    return str(caught.value)


def warned(dataset: SegmentationDataset) -> list[str]:
    lines: list[str] = []
    check_split(dataset, training=False, warn=lines.append)
    return lines


@pytest.mark.parametrize("labels", [[[0, 1]], [[0], [1]], [[0, 0]] * 30 + [[2, 0]], [[0, 1, 255]]])
def test_two_classes_are_enough(tmp_path: Path, labels: Labels) -> None:
    dataset = FolderSegmentation(folder(tmp_path, labels))
    check_split(dataset, training=True, warn=pytest.fail)
    check_split(dataset, training=False, warn=pytest.fail)


@pytest.mark.parametrize("labels", [[[255]], [[255, 255]] * 20])
def test_nothing_but_void_is_refused(tmp_path: Path, labels: Labels) -> None:
    dataset = FolderSegmentation(folder(tmp_path, labels))
    for training in (True, False):
        text = refused(dataset, training=training)
        assert "images: labels hold nothing but void" in text
    assert [problem.message for problem in check_dataset(dataset)] == [text.split(": ", 1)[1]]


@pytest.mark.parametrize("labels", [[[0, 0]], [[1, 1]] * 12, [[0, 255]], [[2, 255], [2, 2]]])
def test_one_class_is_refused_to_learn_and_warned_of_to_score(
    tmp_path: Path, labels: Labels
) -> None:
    dataset = FolderSegmentation(folder(tmp_path, labels))
    text = refused(dataset, training=True)
    name = dataset.class_names[labels[0][0]]
    assert f"labels hold pixels of one class alone, '{name}'" in text
    assert warned(dataset) == [text]
    assert text in map(str, check_dataset(dataset))


def test_masks_of_0_and_255_are_named_with_their_remedy(tmp_path: Path) -> None:
    root = folder(tmp_path, [[0, 255], [0, 0], [255, 255]], ("ground", "thing"))
    remedy = "--data.label-map 0=0,255=1"
    assert remedy in refused(FolderSegmentation(root), training=True)
    assert remedy in warned(FolderSegmentation(root))[0]
    mapped = FolderSegmentation(root, coding=LabelCoding(classes=((0, 0), (255, 1))))
    check_split(mapped, training=True, warn=pytest.fail)


def test_void_of_another_value_has_no_such_remedy(tmp_path: Path) -> None:
    root = folder(tmp_path, [[0, 1]], ("ground", "thing"))
    text = refused(FolderSegmentation(root, coding=LabelCoding(void=(0,))), training=True)
    assert "label-map" not in text
    assert "'thing' (and void); give labels of two classes" in text


@pytest.mark.parametrize("values", [[1, 255], [2, 255, 2]])
def test_labels_of_another_class_are_no_masks(tmp_path: Path, values: list[int]) -> None:
    text = refused(FolderSegmentation(folder(tmp_path, [values])), training=True)
    assert "label-map" not in text
    assert "(and void); give labels of two classes" in text


def test_a_map_of_values_is_of_no_second_set_of_labels(tmp_path: Path) -> None:
    """Nor of the first, where there are two: it says nothing of the other."""
    root = folder(tmp_path, [[0, 255]], ("ground", "thing"))
    (root / "classes-parts.txt").write_text("whole\nhalf\n")
    shutil.copytree(root / "labels", root / "parts")
    dataset = FolderSegmentation(root, label_folder="labels,parts")
    for which in range(2):
        text = refused(dataset.only(which), training=True)
        assert text.endswith("(and void); give labels of two classes or more")


def test_a_single_class_leaves_nothing_to_tell_apart(tmp_path: Path) -> None:
    text = refused(FolderSegmentation(folder(tmp_path, [[0, 255]], ("thing",))), training=True)
    assert "name the background, too" in text


class Counted(SegmentationDataset):
    """Counts the pairs and the labels that are decoded."""

    pairs = labels = 0

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        Counted.pairs += 1
        return super().examine(index)

    def label(self, index: int) -> np.ndarray:
        Counted.labels += 1
        return super().label(index)


@pytest.mark.parametrize(("single", "labels"), [(0, 0), (100, 100)])
def test_no_more_is_decoded_than_shows_two_classes(
    single: int, labels: int, tmp_path: Path
) -> None:
    dataset = FolderSegmentation(folder(tmp_path, [[0, 0]] * 300))
    last = np.random.default_rng(0).permutation(300)[single]  # looked at after so many others
    for index in [*range(300)] if single == 0 else [last]:
        Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(dataset.label_path(index))
    dataset.__class__ = Counted
    Counted.pairs = Counted.labels = 0
    check_split(dataset, training=True, warn=pytest.fail)
    assert Counted.pairs == 8
    assert Counted.labels == max(0, labels - 7)


def test_a_long_search_is_announced(tmp_path: Path) -> None:
    dataset = FolderSegmentation(folder(tmp_path, [[0, 255]] * 210))
    lines: list[str] = []
    with pytest.raises(DataError):
        check_split(dataset, training=True, warn=lines.append)
    assert len(lines) == 1
    assert lines[0].endswith("(in 200 labels; looking at all 210)")


@pytest.mark.parametrize("what", ["exif", "size", "broken"])
def test_faults_of_all_images_are_met_before_training(tmp_path: Path, what: str) -> None:
    dataset = FolderSegmentation(folder(tmp_path, [[0, 1]] * 20))
    tag = Image.Exif()
    tag[0x112] = 3
    for index in range(20):
        path = dataset.image_path(index)
        if what == "broken":
            path.write_bytes(b"")
        else:
            size = (2, 2 if what == "size" else 1)
            Image.new("RGB", size).save(path, exif=tag if what == "exif" else None)
    message = {"exif": "EXIF tag", "size": "but its image", "broken": "cannot be decoded"}[what]
    assert message in refused(dataset, training=False)


def test_missing_files_are_summed_up(tmp_path: Path) -> None:
    dataset = FolderSegmentation(folder(tmp_path, [[0, 1]] * 30))
    dataset.image_path(7).unlink()
    assert refused(dataset, training=True).endswith(
        "007.png: image is missing; restore the file or take it off the list"
    )
    for index in range(5, 30):
        dataset.image_path(index).unlink(missing_ok=True)
        dataset.label_path(index).unlink()
    text = refused(dataset, training=True)
    assert "25 of 30 images and 25 of 30 labels are missing: 005.png" in text
    assert len(text) < 250


@pytest.mark.parametrize("suffix", ["_mask.png", ".gif", "_L.tif", " (1).png"])
def test_labels_under_longer_names_are_pointed_to(tmp_path: Path, suffix: str) -> None:
    folder(tmp_path, [[0, 1]] * 2)
    for index in range(2):
        stem = tmp_path / "labels" / f"{index:03d}"
        Image.open(f"{stem}.png").save(f"{stem}{suffix}")
        (tmp_path / "labels" / f"{index:03d}.png").unlink()
    (tmp_path / "list.txt").write_text("000\n001\n")
    if suffix == ".gif":
        FolderSegmentation(tmp_path, "list")[0]  # any ending will do
        return
    dataset = FolderSegmentation(tmp_path, "list", strict=False)
    assert f"give --data.label-suffix {shlex.quote(suffix)}" in refused(dataset, training=True)
    hints = [problem for problem in check_dataset(dataset) if "suffix" in problem.message]
    assert len(hints) == 1
    check_split(
        FolderSegmentation(tmp_path, "list", label_suffix=suffix), training=True, warn=pytest.fail
    )


@pytest.mark.parametrize(
    ("listed", "image", "label", "missing", "found"),
    [
        ("a\u0301", "\u00e1.png", "\u00e1.png", "images/a\u0301.jpg", "\u00e1.png"),
        ("\u00e1", "\u00e1.png", "a\u0301.png", "labels/\u00e1.png", "a\u0301.png"),
        ("x", "x.png", "X.PNG", "labels/x.png", "X.PNG"),
        ("X", "x.JPG", "x.png", "images/X.jpg", "x.JPG"),
    ],
)
@pytest.mark.parametrize("pairs", [1, 2])
def test_files_whose_names_look_alike_are_pointed_to(
    listed: str, image: str, label: str, missing: str, found: str, pairs: int, tmp_path: Path
) -> None:
    folder(tmp_path, [[0, 1]] * 2)
    for number, name in enumerate((image, f"z{image}")[:pairs]):
        Image.open(tmp_path / "images" / f"{number:03d}.png").save(tmp_path / "images" / name)
    for number, name in enumerate((label, f"z{label}")[:pairs]):
        (tmp_path / "labels" / f"{number:03d}.png").rename(tmp_path / "labels" / name)
    (tmp_path / "list.txt").write_text("\n".join((listed, f"z{listed}")[:pairs]), encoding="utf-8")
    dataset = FolderSegmentation(tmp_path, "list", strict=False)
    hint = f"{tmp_path / missing}: is missing, but there is {found}, whose name differs in case"
    assert hint in refused(dataset, training=True)
    assert sum(hint in str(problem) for problem in check_dataset(dataset)) == 1


def test_the_hint_at_longer_names_counts_the_labels_of_one_set(tmp_path: Path) -> None:
    """Two sets whose labels are missing are not "4 of 2 labels"."""
    folder(tmp_path, [[0, 1]] * 2)
    (tmp_path / "parts").mkdir()
    (tmp_path / "classes-parts.txt").write_text("a\nb\n")
    for index in range(2):
        label = tmp_path / "labels" / f"{index:03d}.png"
        label.rename(label.with_name(f"{index:03d}_mask.png"))
    (tmp_path / "list.txt").write_text("000\n001\n")
    dataset = FolderSegmentation(tmp_path, "list", label_folder="labels,parts", strict=False)
    (hint,) = [problem for problem in check_dataset(dataset) if "suffix" in problem.message]
    assert hint.message.startswith("2 of 2 labels are missing, but there is 000_mask.png")
    assert hint.message in refused(dataset, training=True)


def test_absent_classes_are_one_sentence(tmp_path: Path) -> None:
    dataset = FolderSegmentation(folder(tmp_path, [[0, 1]]))
    assert absent_classes(dataset, [5, 1, 7]) == ""
    assert absent_classes(dataset, np.array([5, 0, 0])) == "no pixel of 2 of 3 classes: thing, sky"


def test_training_notices_classes_that_an_epoch_lacks(tmp_path: Path) -> None:
    dataset = MemoryDataset(FolderSegmentation(folder(tmp_path, [[0, 1]] * 4)))
    lines: list[str] = []
    watch = ClassWatch(dataset, lines.append)
    target = torch.tensor([[[0, 1, 255]], [[0, 0, 0]]], dtype=torch.uint8)
    watch.add(target)
    assert lines == []
    watch.add(target)
    watch.add(target)
    assert len(lines) == 1
    assert "images: in an epoch of training there was no pixel of 1 of 3 classes: sky" in lines[0]

    watch = ClassWatch(dataset, pytest.fail)
    for value in range(3):
        watch.add(torch.full((2, 1, 1), value, dtype=torch.uint8))
        watch.add(torch.tensor([[[0, 1, 2]]], dtype=torch.uint8))
