from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn_ext.numpy import voc_palette
from fcn_train.data import (
    colorize,
    contact_sheet,
    dataset_sheet,
    open_dataset,
    overlay,
)

LABEL = np.array([[0, 1], [255, 15]], dtype=np.uint8)
IMAGE = np.full((2, 2, 3), 100, dtype=np.uint8)


def test_colors_are_the_palettes() -> None:
    colors = colorize(LABEL, voc_palette())
    assert colors.tolist() == [[[0, 0, 0], [128, 0, 0]], [[224, 224, 192], [192, 128, 128]]]


def test_overlay_mixes_classes_and_lets_black_and_void_through() -> None:
    mixed = overlay(IMAGE, LABEL, voc_palette(), alpha=0.25)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == mixed[1, 0].tolist() == [100, 100, 100]
    assert mixed[0, 1].tolist() == [107, 75, 75]
    assert mixed[1, 1].tolist() == [123, 107, 107]


def test_overlay_names_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"alpha must be in 0\.\.1, got 2"):
        overlay(IMAGE, LABEL, voc_palette(), alpha=2)
    with pytest.raises(ValueError, match=r"label must have the image's size .*, got \(1, 2\)"):
        overlay(IMAGE, LABEL[:1], voc_palette())


def test_sheet_holds_every_picture_in_its_cell() -> None:
    red, blue = (np.zeros((h, w, 3), dtype=np.uint8) for h, w in ((4, 6), (2, 2)))
    red[:] = (255, 0, 0)
    blue[:] = (0, 0, 255)
    sheet = np.asarray(contact_sheet([[red, blue], [blue]], margin=1))
    assert sheet.shape == (4 + 2 + 3, 6 + 2 + 3, 3)
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 24
    assert (sheet == (0, 0, 255)).all(axis=2).sum() == 8
    assert (sheet[1:5, 1:7] == (255, 0, 0)).all()
    assert (sheet[2:4, 8:10] == (0, 0, 255)).all()


def test_titles_are_written_above_the_columns() -> None:
    plain = contact_sheet([[IMAGE, IMAGE]])
    titled = np.asarray(contact_sheet([[IMAGE, IMAGE]], titles=["image", "label"]))
    band = titled.shape[0] - plain.height
    assert band > 8
    assert (titled[:band] < 128).any()


def test_sheet_of_nothing_is_a_picture_nevertheless() -> None:
    assert contact_sheet([]).size == (4, 4)


def test_data_set_is_shown_as_pairs(sample_root: Path) -> None:
    dataset = open_dataset("sample", sample_root, "val")
    sheet = dataset_sheet(dataset, range(4), pairs_per_row=2)
    assert sheet.width >= 4 * 48
    assert sheet.height >= 2 * 48
