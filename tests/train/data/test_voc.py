from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import VOC_CLASS_NAMES, DataError, VocSegmentation, open_dataset
from fcn_train.data.voc import find_voc_folder


def test_classes_are_vocs() -> None:
    assert len(VOC_CLASS_NAMES) == 21
    assert VOC_CLASS_NAMES[0] == "background"
    assert VOC_CLASS_NAMES[15] == "person"
    assert list(VOC_CLASS_NAMES[1:]) == sorted(VOC_CLASS_NAMES[1:])


@pytest.mark.parametrize("above", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_year_is_found_from_any_folder_above(voc_root: Path, above: str) -> None:
    assert VocSegmentation(voc_root.parents[1] / above, "val").ids == ["c"]


def test_2011_lies_below_trainval(voc_root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "2011" / "TrainVal" / "VOCdevkit" / "VOC2011"
    shutil.copytree(voc_root, moved)
    assert find_voc_folder(tmp_path / "2011") == moved
    assert VocSegmentation(tmp_path / "2011", "train").name == "VOC2011"


def test_newest_of_several_years_is_taken(voc_root: Path) -> None:
    shutil.copytree(voc_root, voc_root.parent / "VOC2011")
    assert find_voc_folder(voc_root.parent) == voc_root


def test_augmented_labels_are_read_from_their_folder(voc_root: Path) -> None:
    shutil.move(voc_root / "SegmentationClass", voc_root / "SegmentationClassAug")
    dataset = open_dataset("voc", voc_root, "train", label_folder="SegmentationClassAug")
    assert dataset.label_path(0).parent.name == "SegmentationClassAug"
    assert dataset[0].label.shape == (7, 9)


@pytest.mark.parametrize(
    "text", ["b\na\n", "b 1\na -1\n", "/JPEGImages/b.jpg /SegmentationClassAug/b.png\na.jpg\n"]
)
def test_split_may_be_the_path_of_a_list_in_any_usual_form(
    voc_root: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "mine.txt").write_text(text)
    assert VocSegmentation(voc_root, str(tmp_path / "mine.txt")).ids == ["b", "a"]


def test_missing_list_names_those_there_are(voc_root: Path) -> None:
    with pytest.raises(DataError, match=r"trian\.txt: list of images cannot.*lists train, val"):
        VocSegmentation(voc_root, "trian")


def test_missing_folder_is_named_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"JPEGImages: folder is missing; give the folder"):
        VocSegmentation(tmp_path / "nowhere", "train")


def test_published_files_load(shared_data: Path) -> None:
    train = open_dataset("voc", shared_data, "train")
    val = open_dataset("voc", shared_data / "VOCdevkit", "val")
    assert (len(train), len(val)) == (437, 40)
    assert not set(train.ids) & set(val.ids)
    image, label = val[0]
    assert image.shape[:2] == label.shape
    assert set(np.unique(label)) <= {*range(21), 255}
    assert 255 in label


def test_published_seg11valid_list_opens_by_path(shared_data: Path) -> None:
    listing = shared_data / "fcn_lists" / "data" / "pascal" / "seg11valid.txt"
    dataset = open_dataset("voc", shared_data, str(listing))
    assert len(dataset) == 736


def test_classes_of_ones_own_come_from_classes_txt(voc_root: Path) -> None:
    (voc_root / "classes.txt").write_text("\n".join(f"kind {index}" for index in range(9)))
    dataset = VocSegmentation(voc_root.parent, "train")
    assert dataset.class_names == tuple(f"kind {index}" for index in range(9))
    assert dataset[0].label.max() == 255
    (voc_root / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"a\.png: has label values outside 0\.\.1"):
        VocSegmentation(voc_root, "train")[0]
    named = VocSegmentation(voc_root, "train", class_names=[str(index) for index in range(9)])
    assert named.num_classes == 9


def test_folders_suffix_and_endings_may_be_others(voc_root: Path) -> None:
    (voc_root / "SegmentationClass").rename(voc_root / "Masks")
    (voc_root / "JPEGImages").rename(voc_root / "Photos")
    for image_id in "abc":
        photo = voc_root / "Photos" / f"{image_id}.jpg"
        with Image.open(photo) as picture:
            picture.save(photo.with_suffix(".png"))
        photo.unlink()
        label = voc_root / "Masks" / f"{image_id}.png"
        label.rename(label.with_name(f"{image_id}_mask.png"))
    options = {"image_folder": "Photos", "label_folder": "Masks"}
    for suffix in ("_mask", "_mask.png"):
        dataset = open_dataset("voc", voc_root.parents[1], "train", label_suffix=suffix, **options)
        assert [dataset[index].label.shape for index in range(2)] == [(7, 9), (8, 12)]


@pytest.mark.parametrize("ending", [".JPG", ".Jpeg", ".PNG"])
def test_endings_of_images_may_be_in_upper_case(voc_root: Path, ending: str) -> None:
    image = voc_root / "JPEGImages" / "b.jpg"
    with Image.open(image) as picture:
        picture.save(image.with_suffix(ending))
    image.unlink()
    for split in ("train", str(voc_root / "mine.txt")):
        (voc_root / "mine.txt").write_text(f"a\nb{ending} -1\n")
        dataset = VocSegmentation(voc_root, split)
        assert dataset.image_path(dataset.ids.index("b")).name == f"b{ending}"
        assert dataset[dataset.ids.index("b")].label.size > 0


def test_a_name_with_a_space_is_not_cut(voc_root: Path) -> None:
    for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(voc_root / folder / f"b.{ending}", voc_root / folder / f"a 2.{ending}")
    (voc_root / "mine.txt").write_text("a 2\na 1\n")
    dataset = VocSegmentation(voc_root, str(voc_root / "mine.txt"))
    assert dataset.ids == ["a 2", "a"]
    assert dataset[0].label.shape == (8, 12)


def test_a_list_that_leaves_the_data_set_is_refused(voc_root: Path) -> None:
    (voc_root / "mine.txt").write_text("a\n../../a.jpg\n")
    with pytest.raises(DataError, match=r"mine\.txt: names '\.\./\.\./a\.jpg', a file outside"):
        VocSegmentation(voc_root, str(voc_root / "mine.txt"))
