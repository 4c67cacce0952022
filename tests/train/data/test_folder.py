from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import DataError, FolderSegmentation


def add_pair(images: Path, labels: Path, stem: str, ending: str = "jpg") -> None:
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(images / f"{stem}.{ending}")
    Image.fromarray(np.ones((3, 4), dtype=np.uint8)).save(labels / f"{stem}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for stem, ending in (("b", "JPG"), ("a", "png"), ("c d", "bmp")):
        add_pair(tmp_path / "images", tmp_path / "labels", stem, ending)
    return tmp_path


def test_stems_match_whatever_the_endings(root: Path) -> None:
    (root / "images" / "notes.txt").write_text("not an image")
    dataset = FolderSegmentation(root, num_classes=2)
    assert dataset.ids == ["a", "b", "c d"]
    assert dataset.class_names == ("class 0", "class 1")
    assert [dataset[index].label.sum() for index in range(3)] == [12, 12, 12]


@pytest.mark.parametrize(
    "ending", ["JFIF", "jpe", "jpeg", "webp", "avif", "jp2", "tif", "ppm", "pgm", "pnm"]
)
def test_whatever_pillow_writes_is_an_image(ending: str, tmp_path: Path) -> None:
    """The folder's images, and those that a list names with or without their endings."""
    try:
        add_pair(tmp_path / "images", tmp_path / "labels", "a", ending)
    except (KeyError, OSError, ValueError) as error:
        pytest.skip(f"this Pillow writes none: {error}")
    assert FolderSegmentation(tmp_path, num_classes=2)[0].image.shape == (3, 4, 3)
    for name in ("a", f"a.{ending}"):
        (tmp_path / "train.txt").write_text(f"{name}\n")
        assert FolderSegmentation(tmp_path, "train", num_classes=2).ids == ["a"]


def test_class_names_come_from_classes_txt(root: Path) -> None:
    (root / "classes.txt").write_text("ground\nbuilding\n")
    assert FolderSegmentation(root).class_names == ("ground", "building")
    with pytest.raises(DataError, match=r"classes\.txt: names 2 classes but num_classes is 3"):
        FolderSegmentation(root, num_classes=3)


def test_neither_names_nor_number_of_classes_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.txt: is missing; .*in Python, give num_classes"):
        FolderSegmentation(root)


@pytest.mark.parametrize("num_classes", [0, 256, -1])
def test_number_of_classes_out_of_range_is_an_error(root: Path, num_classes: int) -> None:
    with pytest.raises(ValueError, match=rf"num_classes must be in 1\.\.255, got {num_classes}"):
        FolderSegmentation(root, num_classes=num_classes)


def test_class_names_must_be_as_many_as_num_classes(root: Path) -> None:
    with pytest.raises(ValueError, match="class_names must hold 3 names, got 2"):
        FolderSegmentation(root, num_classes=3, class_names=("x", "y"))


@pytest.mark.parametrize(
    "line", ["images/b.JPG labels/b.png", "b.JPG b.png", "b 1", "b -1", "b.JPG\tlabels/b.png"]
)
def test_lines_of_more_than_an_image_are_named(root: Path, line: str) -> None:
    """As lists of pairs have them, or those of one class; not a name with a space."""
    (root / "train.txt").write_text(f"a\n{line}\nc d\n")
    dataset = FolderSegmentation(root, "train", num_classes=2, strict=False)
    assert dataset.ids == ["a", "c d"]
    assert [str(problem) for problem in dataset.problems] == [
        f"{root / 'train.txt'}: has the line {line!r}; give the stem of one image, nothing else"
    ]
    add_pair(root / "images", root / "labels", "d 1")
    (root / "train.txt").write_text("d 1\n")
    assert FolderSegmentation(root, "train", num_classes=2).ids == ["d 1"]


def test_split_may_be_a_list_with_or_without_endings(root: Path, tmp_path: Path) -> None:
    (root / "train.txt").write_text("c d\nb.JPG\n")
    assert FolderSegmentation(root, "train", num_classes=2).ids == ["c d", "b"]
    path = str(root / "train.txt")
    assert FolderSegmentation(root, path, num_classes=2).ids == ["c d", "b"]


@pytest.mark.parametrize(
    ("images", "labels"), [("images/val", "labels/val"), ("val/images", "val/labels")]
)
def test_split_may_be_a_sub_folder(tmp_path: Path, images: str, labels: str) -> None:
    add_pair(tmp_path / images, tmp_path / labels, "x")
    dataset = FolderSegmentation(tmp_path, "val", num_classes=2)
    assert dataset.ids == ["x"]
    assert dataset[0].label.shape == (3, 4)


def test_folders_may_have_other_names(tmp_path: Path) -> None:
    add_pair(tmp_path / "photos", tmp_path / "masks", "x")
    dataset = FolderSegmentation(
        tmp_path, image_folder="photos", label_folder="masks", num_classes=2
    )
    assert dataset.ids == ["x"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images: folder of images is missing"):
        FolderSegmentation(tmp_path, num_classes=2)


def test_missing_split_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"val\.txt: list of image names cannot be read"):
        FolderSegmentation(root, "val", num_classes=2)


def test_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"images: names no image"):
        FolderSegmentation(tmp_path, num_classes=2)


def test_label_without_image_and_image_without_label_are_named(root: Path) -> None:
    (root / "images" / "b.JPG").unlink()
    with pytest.raises(DataError, match=r"b\.png: label has no image b\.\*"):
        FolderSegmentation(root, num_classes=2)
    (root / "labels" / "b.png").unlink()
    (root / "labels" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: label is missing; restore"):
        FolderSegmentation(root, num_classes=2)[0]


def test_two_images_of_one_stem_are_named(root: Path) -> None:
    Image.new("RGB", (4, 3)).save(root / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.png: has the same stem as a\.jpg"):
        FolderSegmentation(root, num_classes=2)


@pytest.mark.parametrize("suffix", ["_mask", "_mask.png", "_mask.PNG"])
def test_labels_may_have_a_suffix(tmp_path: Path, suffix: str) -> None:
    add_pair(tmp_path / "images", tmp_path / "labels", "x")
    (tmp_path / "labels" / "x.png").rename(tmp_path / "labels" / "x_mask.png")
    add_pair(tmp_path / "unused", tmp_path / "labels", "x")
    dataset = FolderSegmentation(tmp_path, label_suffix=suffix, num_classes=2)
    assert (dataset.ids, dataset.label_path(0).name) == (["x"], "x_mask.png")
    assert dataset[0].label.sum() == 12
    (tmp_path / "list.txt").write_text("x\ny\n")
    listed = FolderSegmentation(tmp_path, "list", label_suffix=suffix, num_classes=2)
    assert listed.label_path(1) == tmp_path / "labels" / "y_mask.png"


@pytest.mark.parametrize("suffix", [".gif", ".tif", "_mask.gif"])
def test_labels_may_have_another_ending(tmp_path: Path, suffix: str) -> None:
    add_pair(tmp_path / "images", tmp_path / "labels", "x")
    Image.open(tmp_path / "labels" / "x.png").save(tmp_path / "labels" / f"x{suffix}")
    dataset = FolderSegmentation(tmp_path, label_suffix=suffix, num_classes=2)
    assert dataset.label_path(0).name == f"x{suffix}"
    assert dataset[0].label.sum() == 12


def test_images_and_labels_may_share_a_folder(tmp_path: Path) -> None:
    add_pair(tmp_path, tmp_path / "labels", "x", "png")
    (tmp_path / "labels" / "x.png").rename(tmp_path / "x_mask.png")
    dataset = FolderSegmentation(
        tmp_path, image_folder=".", label_folder="", label_suffix="_mask.png", num_classes=2
    )
    assert dataset.ids == ["x"]
    assert dataset[0].label.sum() == 12
    assert dataset.name == tmp_path.name


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({"image_folder": "labels"}, "image", "label"),
        ({"image_folder": "labels", "label_folder": "./labels"}, "image", "label"),
        ({"channels": "color-hha", "hha_folder": "images"}, "image", "HHA image"),
        ({"channels": "color-depth", "depth_folder": "labels"}, "label", "depth image"),
    ],
)
def test_one_file_is_not_two_things(
    tmp_path: Path, options: dict[str, Any], first: str, second: str
) -> None:
    add_pair(tmp_path / "images", tmp_path / "labels", "x", "png")
    with pytest.raises(DataError, match=f"x.png: is given as {first} and as {second}; give a fil"):
        FolderSegmentation(tmp_path, num_classes=2, **options)


@pytest.mark.parametrize(("split", "place"), [("", "city"), ("", "a/b"), ("train", "train/city")])
def test_images_further_down_are_not_left_out_without_a_word(
    tmp_path: Path, split: str, place: str
) -> None:
    add_pair(tmp_path / "images" / split, tmp_path / "labels" / split, "x")
    assert FolderSegmentation(tmp_path, split, num_classes=2).ids == ["x"]
    add_pair(tmp_path / "images" / place, tmp_path / "labels" / place, "y")
    with pytest.raises(DataError, match=r"holds images that are not right in .*; name images in a"):
        FolderSegmentation(tmp_path, split, num_classes=2)
    dataset = FolderSegmentation(tmp_path, split, num_classes=2, strict=False)
    assert [problem.kind for problem in dataset.problems] == ["folder of images that is left out"]
    (tmp_path / "some.txt").write_text(f"{split}/x\n{place}/y\n".lstrip("/"))
    assert len(FolderSegmentation(tmp_path, "some", num_classes=2)) == 2


@pytest.mark.parametrize("folders", ["labels,", ",", "labels,,parts", " ,labels"])
def test_several_folders_of_labels_have_names(root: Path, folders: str) -> None:
    message = f"label-folder must be folders with commas between them, got {folders!r}"
    with pytest.raises(ValueError, match=message):
        FolderSegmentation(root, num_classes=2, label_folder=folders)


def test_lists_may_name_sub_folders(tmp_path: Path) -> None:
    add_pair(tmp_path / "images" / "city", tmp_path / "labels" / "city", "a", "png")
    add_pair(tmp_path / "images", tmp_path / "labels", "a")
    (tmp_path / "list.txt").write_text(f"city/a.png\nimages/a.jpg\n{tmp_path}/images/city/b.jpg\n")
    dataset = FolderSegmentation(tmp_path, "list", num_classes=2)
    assert dataset.ids == ["city/a", "a", "city/b"]
    assert dataset[0].label.sum() == dataset[1].label.sum() == 12
    assert dataset.image_path(2) == tmp_path / "images" / "city" / "b.jpg"


@pytest.mark.parametrize("line", ["../x", "../../etc/x", "a/../../x.jpg", "/etc/x.png", "..\\x"])
def test_lists_that_leave_the_data_set_are_refused(root: Path, line: str) -> None:
    add_pair(root, root / "labels", "x")
    (root / "list.txt").write_text(f"a\n{line}\n")
    with pytest.raises(DataError, match=r"list\.txt: names .*, a file outside the data set"):
        FolderSegmentation(root, "list", num_classes=2)
    dataset = FolderSegmentation(root, "list", num_classes=2, strict=False)
    assert (dataset.ids, len(dataset.problems)) == (["a"], 1)


@pytest.mark.parametrize("split", ["", "train", "listed"])
def test_depth_lies_where_the_images_do(tmp_path: Path, split: str) -> None:
    """Beside them, or in folders of the split, or by the names of a list."""
    images, labels, depths, hhas = ("rgb", "labels", "metric", "hha")
    inner = "train" if split == "train" else ""
    for number in range(2):
        name = f"city/{number}" if split == "listed" else str(number)
        for folder, picture in (
            (images, Image.new("RGB", (3, 2))),
            (labels, Image.new("L", (3, 2), 1)),
            (depths, Image.fromarray(np.full((2, 3), 100 + number, dtype=np.uint16))),
            (hhas, Image.new("RGB", (3, 2), (number + 1, 2, 3))),
        ):
            path = tmp_path / folder / inner / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    if split == "listed":
        (tmp_path / "listed.txt").write_text("city/0\ncity/1\n")
    options: dict[str, Any] = {"num_classes": 2, "image_folder": images}
    dataset = FolderSegmentation(
        tmp_path, split, depth_folder=depths, channels="color-depth", **options
    )
    assert [dataset[index].depth[0, 0] for index in range(2)] == [100, 101]  # type: ignore[index]
    hha = FolderSegmentation(tmp_path, split, channels="color-hha", **options)
    assert [hha[index].hha[0, 0, 0] for index in range(2)] == [1, 2]  # type: ignore[index]
    with pytest.raises(DataError, match=r"depth.*: folder is missing; .* --data\.depth-folder"):
        FolderSegmentation(tmp_path, split, channels="color-depth", **options)


def test_a_second_folder_of_labels_is_a_second_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_pair(tmp_path / "images", tmp_path / "labels", name)
        (tmp_path / "parts").mkdir(exist_ok=True)
        part = np.full((3, 4), 2, dtype=np.uint8)
        Image.fromarray(part).save(tmp_path / "parts" / f"{name}.png")
    options: dict[str, Any] = {"num_classes": 2, "label_folder": "labels,parts"}
    listing = tmp_path / "classes-parts.txt"
    with pytest.raises(
        DataError, match=r"parts\.txt: list of class names cannot be read .*; name the classes of"
    ):
        FolderSegmentation(tmp_path, **options)
    listing.write_text("head\ntail\nlegs\n")
    (tmp_path / "parts" / "b.png").unlink()
    dataset = FolderSegmentation(tmp_path, **options)
    assert [labels.name for labels in dataset.label_sets] == ["labels", "parts"]
    assert [labels.num_classes for labels in dataset.label_sets] == [2, 3]
    with pytest.raises(DataError, match=r"parts/b\.png: label is missing"):
        dataset[1]
    listing.write_text("head\ntail\n")
    with pytest.raises(
        DataError, match=r"values that classes-parts\.txt has no class for: 2 in 12"
    ):
        FolderSegmentation(tmp_path, **options)[0]
    with pytest.raises(ValueError, match="label-folder must name different folders, got parts tw"):
        FolderSegmentation(tmp_path, num_classes=2, label_folder="labels,parts,parts")


def test_links_out_of_the_data_set_are_read(tmp_path: Path) -> None:
    add_pair(tmp_path / "there", tmp_path / "mine" / "labels", "x")
    (tmp_path / "mine" / "images").mkdir()
    (tmp_path / "mine" / "images" / "x.jpg").symlink_to(tmp_path / "there" / "x.jpg")
    assert FolderSegmentation(tmp_path / "mine", num_classes=2)[0].label.size > 0


def test_stray_files_are_no_pairs(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder / "._a.png").write_bytes(b"resource fork")
        (root / folder / "x.jpg").mkdir()
    assert FolderSegmentation(root, num_classes=2).ids == ["a", "b", "c d"]
