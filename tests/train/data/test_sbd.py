"""SBD, from small files in the original format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from fcn_train.data import (
    VOC_CLASS_NAMES,
    DataError,
    SbdSegmentation,
    check_dataset,
    open_dataset,
)


@pytest.fixture
def sbd_root(tmp_path: Path, write_matlab_pair: Callable[..., None]) -> Path:
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    values = np.arange(21, dtype=np.uint8).reshape(3, 7)
    for name in ("2008_000002", "2008_000003"):
        content = {"GTcls": {"Boundaries": 0, "Segmentation": values, "CategoriesPresent": 1}}
        write_matlab_pair(
            root / "img" / f"{name}.jpg", root / "cls" / f"{name}.mat", content, (7, 3)
        )
    (root / "train.txt").write_text("2008_000003\n2008_000002\n")
    return root


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_sbd(sbd_root: Path, above: str) -> None:
    dataset = open_dataset("sbd", sbd_root / above, "train")
    assert dataset.ids == ["2008_000003", "2008_000002"]
    assert dataset.class_names == VOC_CLASS_NAMES
    assert dataset[0].label.ravel().tolist() == list(range(21))
    assert dataset[0].image[0, 0].tolist() == [10, 20, 30]


def test_sbd_takes_a_list_by_its_path(sbd_root: Path, tmp_path: Path) -> None:
    (tmp_path / "train_noval.txt").write_text("2008_000002\n")
    dataset = SbdSegmentation(sbd_root, str(tmp_path / "train_noval.txt"))
    assert dataset.ids == ["2008_000002"]


def test_values_without_a_class_are_named(sbd_root: Path) -> None:
    path = sbd_root / "cls" / "2008_000002.mat"
    values = np.zeros((3, 7), dtype=np.uint8)
    values[1, 2:4] = (21, 255)
    savemat(path, {"GTcls": {"Segmentation": values}})
    dataset = SbdSegmentation(sbd_root)
    with pytest.raises(DataError) as caught:
        dataset[1]
    assert str(caught.value).startswith(
        f"{path}: has label values that SBD has no class for: 21, 255 in 2 pixels, the first at "
        "row 1, column 2"
    )


def test_all_problems_are_found_beforehand(sbd_root: Path) -> None:
    (sbd_root / "cls" / "2008_000002.mat").unlink()
    wider = {"Segmentation": np.zeros((3, 8), np.uint8)}
    savemat(sbd_root / "cls" / "2008_000003.mat", {"GTcls": wider})
    problems = check_dataset(SbdSegmentation(sbd_root, strict=False))
    assert [problem.message.split(";")[0] for problem in problems] == [
        f"is 8 x 3 pixels but its image {sbd_root / 'img' / '2008_000003.jpg'} is 7 x 3",
        "label is missing",
    ]


def test_the_program_trains_on_sbd(
    sbd_root: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    data = ("--data.kind", "sbd", "--data.root", sbd_root, "--data.val-split", "train")
    small = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    short = ("--optim.batch", "2", "--optim.steps", "2", "--threads", "1")
    code, _, _ = command("train", *data, *small, *short, "--output", tmp_path / "run")
    assert code == 0
    assert (tmp_path / "run" / "report.html").exists()
