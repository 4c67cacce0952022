"""The upper bound by label downsampling: its arithmetic, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fcn_ext.metrics import ConfusionMatrix
from fcn_train.data import write_sample_dataset
from fcn_train.study.label_downsampling import METHODS, PUBLISHED, add, class_shares

from ..running import assert_one_line

Command = Callable[..., tuple[int, str, str]]
CLASSES = 5


def random_label(height: int, width: int) -> Tensor:
    label = torch.randint(0, CLASSES + 1, (height, width), dtype=torch.uint8)
    label[label == CLASSES] = 255
    return label


def counted(label: Tensor, factor: int) -> dict[str, Tensor]:
    matrices = {name: ConfusionMatrix(CLASSES) for name in METHODS}
    add(label, factor, matrices)
    return {name: matrix.matrix for name, matrix in matrices.items()}


def by_hand(label: Tensor, factor: int, method: str) -> Tensor:
    """Block by block, in plain Python and NumPy."""
    height, width = label.shape
    rows, columns = -(-height // factor), -(-width // factor)
    shares = torch.zeros(CLASSES, rows, columns)
    predicted = torch.zeros(rows * factor, columns * factor, dtype=torch.int64)
    for row in range(rows):
        for column in range(columns):
            top, left = row * factor, column * factor
            block = label[top : top + factor, left : left + factor]
            counts = np.bincount(block[block != 255].numpy(), minlength=CLASSES)
            winner = int(counts.argmax())
            if counts.sum():
                shares[:, row, column] = torch.from_numpy(counts / counts.sum())
            y, x = top + factor // 2, left + factor // 2
            if method == "nearest" and y < height and x < width and label[y, x] != 255:
                winner = int(label[y, x])
            predicted[top : top + factor, left : left + factor] = winner
    if method == "bilinear":
        size = (rows * factor, columns * factor)
        predicted = F.interpolate(shares[None].double(), size=size, mode="bilinear")[0].argmax(0)
    predicted = predicted[:height, :width]
    matrix = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for target, guess in zip(label.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if target != 255:
            matrix[target, guess] += 1
    return matrix


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (16, 12)])
@pytest.mark.parametrize("factor", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("method", METHODS)
def test_counts(size: tuple[int, int], factor: int, method: str) -> None:
    label = random_label(*size)
    found, expected = counted(label, factor)[method], by_hand(label, factor, method)
    # Bilinear ties may be rounded either way.
    allowed = 0 if method != "bilinear" else 2 + label.numel() // 20
    assert (found - expected).abs().sum() <= 2 * allowed
    assert torch.equal(found.sum(1), expected.sum(1))


def test_void_everywhere_counts_nothing() -> None:
    label = torch.full((7, 9), 255, dtype=torch.uint8)
    for factor in (1, 4):
        assert all(not matrix.any() for matrix in counted(label, factor).values())


def test_blocks_of_one_class_lose_nothing() -> None:
    label = random_label(4, 6).repeat_interleave(8, 0).repeat_interleave(8, 1)
    for factor in (1, 2, 8):
        for name in ("nearest", "majority"):
            matrix = counted(label, factor)[name]
            assert torch.equal(matrix, matrix.diag().diag())


def test_shares() -> None:
    label = torch.tensor([[0, 1, 255, 255], [1, 1, 255, 255]], dtype=torch.uint8)
    assert class_shares(label, 2, 3).tolist() == [[[0.25, 0]], [[0.75, 0]], [[0, 0]]]


def test_the_command(command: Command, sample_root: Path, in_folder: Path) -> None:
    code, out, _ = command("study", "label-downsampling", "--data.root", sample_root)
    assert code == 0
    folder = in_folder / "runs" / "study-label-downsampling"
    names = {path.name for path in folder.iterdir()}
    assert names == {"table.txt", "table.csv", "study.json", "picture.png"}
    assert (folder / "table.txt").read_text() in out
    values = json.loads((folder / "study.json").read_text())
    rows = {row["factor"]: row for row in values["rows"]}
    assert list(rows) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert values["labels"] == 9
    assert all(rows[1][method] == 100 for method in METHODS)
    assert all(0 < rows[128][method] < rows[4][method] <= 100 for method in METHODS)
    assert {factor: row["paper"] for factor, row in rows.items() if row["paper"]} == PUBLISHED
    assert (folder / "table.csv").read_text().startswith("factor,nearest,majority,bilinear,paper\n")


def test_splits_and_factors(command: Command, sample_root: Path, tmp_path: Path) -> None:
    flags = ("--data.root", sample_root, "--output", tmp_path / "study", "--threads", "1")
    more = ("--split", "val", "val", "--factors", "8", "2", "8")
    assert command("study", "label-downsampling", *flags, *more)[0] == 0
    values = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [row["factor"] for row in values["rows"]] == [2, 8]
    assert values["labels"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--factors", "0"), "--factors must be in [1, 1024], got 0"),
        (("--factors",), "--factors must be one number or more, got none"),
        (("--data.kind", "voc"), "--data.kind voc needs --data.root"),
        (("--split", "test"), "test"),
    ],
)
def test_mistakes(
    command: Command, sample_root: Path, arguments: tuple[str, ...], message: str
) -> None:
    root = () if "voc" in arguments else ("--data.root", str(sample_root))
    code, _, err = command("study", "label-downsampling", *root, *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err


def test_labels_of_void_alone_have_no_bound(command: Command, tmp_path: Path) -> None:
    """Their mean IU would be NaN at every factor."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4), 255).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("sky\nsun\n")
    study = ("study", "label-downsampling", "--data.kind", "folder", "--data.root", tmp_path)
    result = command(*study, "--split", "", "--output", tmp_path / "study")
    assert_one_line(result, "labels hold nothing but void, so there is nothing to learn")
    assert not (tmp_path / "study").exists()


def test_several_sets_of_labels_are_refused(command: Command, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "scenes", train=2, val=2, size=32, layout="sift-flow")
    folders = "SemanticLabels,GeoLabels"
    flags = ("--data.kind", "sift-flow", "--data.root", root, "--data.label-folder", folders)
    result = command("study", "label-downsampling", *flags, "--output", tmp_path / "study")
    assert_one_line(result, "a study is of one set of labels: give one folder", folders)
    assert not (tmp_path / "study").exists()


def test_the_published_bound_on_real_labels(shared_data: Path) -> None:
    """Of the 40 labels at hand, near the published figures where strides are fine."""
    from fcn_train.data import open_dataset

    dataset = open_dataset("voc", shared_data / "VOCdevkit" / "VOC2012", "val")
    matrices = {name: ConfusionMatrix(21) for name in METHODS}
    for index in range(len(dataset)):
        add(torch.from_numpy(dataset.label(index)), 8, matrices)
    for matrix in matrices.values():
        assert 0.95 < matrix.compute().mean_iu < 1
