from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import CAMVID_CLASS_NAMES, CamVid, DataError, camvid_palette, open_dataset


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    root = tmp_path / "CamVid"
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in ("0001TP_006690", "0016E5_07959"):
        for folder in ("train", "trainannot"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (10, 20, 30)).save(root / "train" / f"{name}.png")
        Image.fromarray(label).save(root / "trainannot" / f"{name}.png")
    (root / "train.txt").write_text(
        "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png\n"
        "train/0016E5_07959.png trainannot/0016E5_07959.png\n"
    )
    return root


@pytest.mark.parametrize("above", [".", "CamVid"])
def test_published_paths_are_found_below_the_root(camvid_root: Path, above: str) -> None:
    dataset = CamVid(camvid_root.parent / above, "train")
    assert dataset.ids == ["0001TP_006690", "0016E5_07959"]
    assert dataset.num_classes == len(CAMVID_CLASS_NAMES) == 11
    assert dataset[1].image[0, 0].tolist() == [10, 20, 30]


def test_void_11_becomes_255_and_nothing_else_changes(camvid_root: Path) -> None:
    label = CamVid(camvid_root, "train")[0].label
    assert label.ravel().tolist() == [*range(11), 255]


def test_value_above_void_is_an_error(camvid_root: Path) -> None:
    path = camvid_root / "trainannot" / "0016E5_07959.png"
    Image.fromarray(np.full((3, 4), 12, dtype=np.uint8)).save(path)
    with pytest.raises(DataError, match=r"0016E5_07959\.png: has label values that CamVid"):
        CamVid(camvid_root, "train")[1]


def test_line_with_one_column_is_named(camvid_root: Path) -> None:
    (camvid_root / "val.txt").write_text("a.png b.png\nalone.png\n")
    with pytest.raises(DataError, match=r"val\.txt: line 2 has 1 column;"):
        CamVid(camvid_root, "val")


def test_missing_list_is_named(camvid_root: Path) -> None:
    with pytest.raises(DataError, match=r"test\.txt: list of images and labels cannot be read"):
        CamVid(camvid_root, "test")


def test_palette_has_a_color_for_each_class_and_black_for_void() -> None:
    palette = camvid_palette()
    assert len({tuple(color) for color in palette[:11].tolist()}) == 11
    assert palette[3].tolist() == [128, 64, 128]
    assert not palette[255].any()


def test_published_files_load(shared_data: Path) -> None:
    train = open_dataset("camvid", shared_data, "train")
    val = open_dataset("camvid", shared_data / "CamVid", "val")
    assert (len(train), len(val)) == (184, 21)
    image, label = val[3]
    assert image.shape == (360, 480, 3)
    assert label.shape == (360, 480)
    assert set(np.unique(label)) <= {*range(11), 255}


def test_paths_of_another_system_are_found(camvid_root: Path) -> None:
    published = CamVid(camvid_root, "train")
    listing = camvid_root / "train.txt"
    listing.write_bytes(listing.read_bytes().replace(b"/", b"\\").replace(b"\n", b"\r\n"))
    there = CamVid(camvid_root, "train")
    assert (there.ids, there[0]) == (published.ids, published[0])


@pytest.mark.parametrize("line", ["../x.png trainannot/x.png", "train/a.png ../../x.png"])
def test_a_list_that_leaves_the_data_set_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match="a file outside the data set"):
        CamVid(tmp_path, "train")
