"""Numbers in sentences, and the sentences of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fcn_ext import boundary, calibration, metrics, numpy
from fcn_ext.models import build_model
from fcn_ext.prediction import CoarseWindows
from fcn_train.optim_options import OptimOptions
from fcn_train.schedule import planned_length
from fcn_train.words import counted, counted_each

from .conftest import TINY_FLAGS

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("number", "noun", "digits", "text"),
    [
        (0, "step", "", "0 steps"),
        (1, "step", "", "1 step"),
        (2, "step", "", "2 steps"),
        (1, "class", "", "1 class"),
        (21, "class", "", "21 classes"),
        (2, "process", "", "2 processes"),
        (12345, "pixel", ",", "12,345 pixels"),
        (1.0, "epoch", "g", "1 epoch"),
        (0.5, "epoch", "g", "0.5 epochs"),
    ],
)
def test_a_number_of_things(number: float, noun: str, digits: str, text: str) -> None:
    assert counted(number, noun, digits) == text


def test_numbers_of_things() -> None:
    assert counted_each([1], "class") == "1 class"
    assert counted_each([21, 3], "class") == "21 and 3 classes"


def test_a_run_of_one_of_everything(sample_root: Path, command: Command, in_folder: Path) -> None:
    """One step of one image, scored on one: no line and no file counts it as several."""
    (sample_root / "ImageSets" / "Segmentation" / "one.txt").write_text("val_000001\n")
    one = ("--data.root", str(sample_root), "--optim.batch", "1", "--optim.steps", "1")
    split = ("--data.val-split", "one", "--output", "run")
    code, out, err = command("train", *TINY_FLAGS, *one, *split)
    assert code == 0, err
    assert "1 step of 1 image" in out
    image = sample_root / "JPEGImages" / "val_000001.jpg"
    said = [out, err, (in_folder / "run" / "model_card.md").read_text()]
    for more in (
        ("evaluate", "run", "--threads", "1"),
        ("predict", "run", image, "--output", "maps", "--threads", "1"),
        ("data", "check", "--kind", "voc", "--root", sample_root, "--split", "one"),
        ("data", "stats", "--kind", "voc", "--root", sample_root, "--split", "one"),
        ("data", "sample", "--root", "data", "--train", "2", "--val", "1", "--size", "32"),
    ):
        code, out, err = command(*more)
        assert code == 0, err
        said += [out, err]
    for text in said:
        assert not [line for line in text.splitlines() if one_of_several(line)]


def one_of_several(line: str) -> bool:
    words = line.replace(",", " ").replace(";", " ").split()
    return any(
        number == "1" and noun.endswith("s") and noun not in ("class", "s", "is", "was")
        for number, noun in itertools.pairwise(words)
    )


def test_one_wrong_pixel() -> None:
    """Of labels given to metrics, and to the functions for NumPy."""
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    target[0, 0, 0] = 9
    labels = torch.zeros_like(target)
    matrix = metrics.ConfusionMatrix(3)
    matrix.update(labels, target)
    edges = boundary.BoundaryIoU(3)
    edges.update(labels, target)
    sure = calibration.Calibration(3)
    sure.update(labels, labels.float(), target)
    for read in (
        matrix.compute,
        edges.compute,
        sure.compute,
        lambda: numpy.confusion_matrix(labels.numpy(), target.numpy(), 3),
    ):
        with pytest.raises(ValueError, match=r"got 1 pixel that is not$"):
            read()


def test_one_of_other_things() -> None:
    with pytest.raises(ValueError, match=r"one number for each skip, 1, got \[1, 2\]"):
        build_model("fcn16s", num_classes=2, width=0.05, skip_scales=[1, 2])
    windows = CoarseWindows((6, 8))
    windows.add(torch.zeros(1, 2, 2, 2))
    assert repr(windows).endswith(": 1 window")
    assert planned_length(OptimOptions(steps=1)) == "1 step"
    assert planned_length(OptimOptions(epochs=1.0)) == "1 epoch"
