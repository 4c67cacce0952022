"""Masked images: what is left of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn_train.data import DataError, MemoryDataset, open_dataset
from fcn_train.data.example import Example
from fcn_train.data.masked import MaskedDataset, masked
from fcn_train.data.normalization import MEAN_COLOR
from fcn_train.data.opening import open_split
from fcn_train.options import DataOptions

LABEL = np.array([[0, 3, 255], [7, 0, 0]], np.uint8)
BACKGROUND, FOREGROUND = LABEL == 0, (LABEL > 0) & (LABEL < 255)


def example() -> Example:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    return Example(image, LABEL, (LABEL,), LABEL.astype(np.uint16) + 1, image + 1)


@pytest.mark.parametrize(
    ("mask", "seen"),
    [("foreground", BACKGROUND), ("background", FOREGROUND), ("shape", LABEL == 254)],
)
def test_what_is_seen(mask: str, seen: np.ndarray) -> None:
    before = example()
    after = masked(before, mask)  # type: ignore[arg-type]
    assert (after.image[seen] == before.image[seen]).all()
    shape = FOREGROUND & (mask == "shape")
    assert (after.image[shape] == 255).all()
    assert (after.image[~seen & ~shape] == MEAN_COLOR).all()
    assert after.image.dtype == np.uint8
    assert (after.label == LABEL).all()
    assert after.depth is not None
    assert before.depth is not None
    assert (after.depth == np.where(seen, before.depth, 0)).all()
    assert after.depth.dtype == before.depth.dtype
    assert after.hha is not None
    assert (after.hha[~seen] == 0).all()
    assert before == example()


def test_nothing_is_masked_by_default() -> None:
    assert masked(example(), "none") == example()


def test_a_data_set(sample_root: Path) -> None:
    plain = open_dataset("sample", sample_root, "val")
    hidden = open_split(DataOptions(root=sample_root, mask="background"), "val")
    assert isinstance(hidden, MaskedDataset)
    assert hidden.ids == plain.ids
    assert hidden[1] == masked(plain[1], "background")
    assert (hidden.label(1) == plain.label(1)).all()
    assert MemoryDataset(hidden)[2] == hidden[2]
    assert hidden.only(0)[0] == hidden[0]
    assert not isinstance(open_split(DataOptions(root=sample_root), "val"), MaskedDataset)


def test_what_is_wrong_is_still_told(sample_root: Path, tmp_path: Path) -> None:
    import shutil

    root = Path(shutil.copytree(sample_root, tmp_path / "sample"))
    hidden = open_split(DataOptions(root=root, mask="shape"), "val")
    hidden.image_path(0).write_bytes(b"no image")
    with pytest.raises(DataError, match="val_000000"):
        hidden[0]
