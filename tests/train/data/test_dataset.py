from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import IGNORE_INDEX, DataError, Problem, open_dataset
from fcn_train.data.images import read_image
from fcn_train.data.labels import read_label
from fcn_train.data.lists import read_lines, without_suffix


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_8_bit_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()
    assert image.flags.writeable


def test_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=r"deep\.png: has pixels of mode I;16.*8 bits"):
        read_image(path)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_label_values_are_indices_with_or_without_palette(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1, 20], [255, 7, 3]], dtype=np.uint8)
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette(voc_palette().tobytes())
    picture.save(tmp_path / "label.png")
    assert np.array_equal(read_label(tmp_path / "label.png"), values)


def test_colours_of_the_palette_in_a_label_come_with_the_remedy(tmp_path: Path) -> None:
    colours = voc_palette()[np.array([[0, 15], [255, 2]])]
    Image.fromarray(colours).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"label\.png: holds the palette's.*decode_palette"):
        read_label(tmp_path / "label.png", voc_palette())


def test_other_colours_in_a_label_are_told_apart(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"is a color picture \(RGB\), not class indices"):
        read_label(tmp_path / "label.png", voc_palette())


def test_jpeg_label_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 3).save(tmp_path / "label.jpg")
    with pytest.raises(DataError, match=r"is a JPEG.*save labels as PNG"):
        read_label(tmp_path / "label.jpg")


def test_label_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 3), dtype=np.uint16)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"mode I;16; save labels as 8-bit"):
        read_label(tmp_path / "label.png")


@pytest.mark.parametrize("kept", [0, 10, 200])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated_file_is_an_error_that_names_it(tmp_path: Path, ending: str, kept: int) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"cut\.{ending}: image cannot be decoded \(.+\); replace"):
        read_image(path)


def test_file_that_is_no_picture_is_told_from_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"decoded \(no known picture format\); replace the file"):
        read_image(tmp_path / "page.jpg")


def test_picture_beyond_pillows_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(DataError, match=r"bomb\.png: image has too many pixels"):
        read_image(path)


def test_pillows_limit_is_left_in_force() -> None:
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_lines_skip_blanks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\n\r\n  b \n")
    assert read_lines(path, "list") == ["a", "b"]


def test_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"list\.txt: list cannot be read .*text file"):
        read_lines(path, "list")


def test_suffix_is_dropped_only_where_it_is_an_images() -> None:
    names = ["2007_000032", "a.jpg", "a.b.PNG", "v1.2"]
    assert [without_suffix(name) for name in names] == ["2007_000032", "a", "a.b", "v1.2"]


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
