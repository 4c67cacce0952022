"""Decoding label files: one meaning, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import DataError
from fcn_train.data.labels import read_label


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
