"""Scores of a split: streamed, at native size, the same for any batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fcn_ext import metrics
from fcn_ext.geometry import Deconvolution
from fcn_ext.models import CoarseScores
from fcn_train.data import IMAGENET, open_dataset
from fcn_train.evaluate import Evaluator, spread
from fcn_train.options import Logits
from fcn_train.per_image import ImageCounts
from fcn_train.runtime import Runtime

Command = Callable[..., tuple[int, str, str]]
RUNTIME = Runtime(torch.device("cpu"))


class ByBrightness(CoarseScores):
    """Class 0 where an image is dark, class 7 where it is bright; remembers what it was given."""

    num_classes, geometry = 21, Deconvolution(1)

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def scores(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        assert not self.training
        logits = images.new_zeros(len(images), 21, *images.shape[2:])
        logits[:, 7] = images.mean(1)
        return logits


def expected_matrix(root: Path) -> np.ndarray:
    dataset = open_dataset("sample", root, "train")
    matrix = np.zeros((21, 21), dtype=np.int64)
    for index in range(len(dataset)):
        image, label = dataset[index]
        normalized = (image.astype(np.float32) - IMAGENET.mean) / IMAGENET.std
        prediction = np.where(normalized.mean(2) > 0, 7, 0)
        valid = label != 255
        np.add.at(matrix, (label[valid], prediction[valid]), 1)
    return matrix


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("by_image", [False, True])
def test_scores_are_those_of_the_pixels(
    by_image: bool, batch: int, logits: Logits, sample_root: Path
) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    model = ByBrightness().train()
    seen: list[int] = []
    evaluator = Evaluator(dataset, RUNTIME, IMAGENET, batch=batch, logits=logits)
    matrix = evaluator.count(model, seen.append, ImageCounts() if by_image else None)
    scores = matrix.compute()
    expected = expected_matrix(sample_root)
    np.testing.assert_array_equal(matrix.matrix.numpy(), expected)
    assert scores.mean_iu == metrics.scores_from_matrix(torch.from_numpy(expected)).mean_iu
    assert sum(seen) == len(dataset) == sum(shape[0] for shape in model.batches)
    assert max(shape[0] for shape in model.batches) <= batch
    assert model.training


def test_pictures_show_examples_of_the_whole_split(sample_root: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    rows = Evaluator(dataset, RUNTIME, IMAGENET).pictures(ByBrightness(), spread(len(dataset), 2))
    assert [row.name for row in rows] == [dataset.ids[1], dataset.ids[4]]
    for row in rows:
        assert row.image.shape[:2] == row.target.shape == row.prediction.shape
        assert set(np.unique(row.prediction)) <= {0, 7}
    assert spread(3, 8) == [0, 1, 2]


def test_command_writes_the_report_and_the_scores_of_training(
    finished_run: Path, command: Command, tmp_path: Path
) -> None:
    code, out, _ = command("evaluate", "--run", finished_run, "--output", tmp_path, "--batch", "2")
    assert code == 0
    assert "3 images of sample, val: mean IU" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "metrics.json",
        "overlays.png",
        "per_class.csv",
        "per_class.png",
        "per_image.csv",
        "report.html",
    }
    trained = json.loads((finished_run / "metrics.json").read_text())
    evaluated = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("pixel_accuracy", "mean_iu", "mean_iu_present", "num_pixels", "classes"):
        assert evaluated[name] == trained[name]


def test_command_scores_another_split(
    finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        *("evaluate", "--run", finished_run, "--split", "train", "--weights", "best"),
        *("--data-kind", "sample", "--data-root", sample_root, "--output", tmp_path),
    )
    assert code == 0
    assert "6 images of sample, train" in out
    assert json.loads((tmp_path / "metrics.json").read_text())["weights"] == "best"


def test_other_classes_are_refused(finished_run: Path, command: Command, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    (tmp_path / "classes.txt").write_text("sky\nland\n")
    code, _, err = command(
        *("evaluate", "--run", finished_run, "--data-kind", "folder"),
        *("--data-root", tmp_path, "--split", ""),
    )
    assert code == 2
    assert "was trained on 21 classes" in err
    assert "has 2; 'background' there is 'sky' here; give a run of the same classes" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", [True, False])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    given: bool,
    finished_run: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    folder = tmp_path / "report" if given else run / "evaluate-val"
    folder.write_text("")
    monkeypatch.setattr(Evaluator, "count", lambda *arguments: pytest.fail("works in vain"))
    flags = ("--output", folder) if given else ()
    code, _, err = command("evaluate", run, *flags)
    said = f"fcn: {folder}: Not a directory; give a place that can be written\n"
    assert (code, err) == (2, said)
