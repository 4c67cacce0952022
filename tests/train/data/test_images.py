"""Decoding images, and finding them in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import DataError
from fcn_train.data.images import read_image


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
