"""Coarse scores and the logits of every pixel lead the program to the same numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fcn_ext.models import FCN, build_model
from fcn_train.data import IMAGENET, image_to_tensor, open_dataset
from fcn_train.evaluator import Evaluator
from fcn_train.loss import pixel_loss
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from fcn_train.train import train
from tests.train.pages import draw_nothing

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)


@pytest.fixture
def logits_forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The logits of no pixel may be written."""

    def refuse(model: FCN, images: Tensor) -> Tensor:
        raise AssertionError("logits were materialized")

    with monkeypatch.context() as patch:
        patch.setattr(FCN, "forward", refuse)
        yield patch


def column(run: Path, file: str, name: str) -> list[float]:
    with (run / file).open() as table:
        return [float(row[name]) for row in csv.DictReader(table)]


@pytest.mark.usefixtures("no_pictures")
def test_training_goes_the_same_way(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    """Roundings of 1e-7 grow from step to step, by batch norm over few pixels."""
    run = train(replace(tiny_options, logits="full", output=tmp_path / "run"))
    assert json.loads((run / "config.json").read_text())["logits"] == "full"
    losses = column(run, "training.csv", "loss")
    np.testing.assert_allclose(losses, column(finished_run, "training.csv", "loss"), rtol=1e-3)
    weights = load_run(run).model.state_dict()
    for name, expected in load_run(finished_run).model.state_dict().items():
        # A bias before batch norm has no gradient but rounding.
        if name.endswith("weight"):
            gap = (weights[name] - expected).abs().max()
            assert gap <= 1e-2 * expected.abs().max(), name


@pytest.mark.parametrize("amp", ["none", "bf16"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_recipes_have_one_loss(weighted: bool, reduction: str, amp: str) -> None:
    """The heavy recipe's sum and the default's mean, with and without class weights."""
    torch.manual_seed(0)
    model = build_model("fcn8s", num_classes=5, width=1 / 32, padding="same", dropout=0.0)
    for parameter in model.parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
        torch.nn.init.normal_(parameter, std=std)
    images = torch.randn(2, 3, 45, 61)
    target = torch.randint(0, 5, (2, 45, 61), dtype=torch.uint8)
    target[0, :20] = 255
    weight = torch.tensor([1.0, 0.0, 2.5, 0.1, 1.0]) if weighted else None
    found = {}
    for logits in ("coarse", "full"):
        with Runtime(CPU, amp).autocast():
            loss = pixel_loss(model, images, target, reduction, weight, logits)
        found[logits] = (loss, *torch.autograd.grad(loss, list(model.parameters())))
    # bf16: the logits of every pixel are rounded to 2^-8, the coarse way does not write them.
    tolerance = 2e-2 if amp == "bf16" else 1e-5
    for coarse, full in zip(*found.values(), strict=True):
        assert coarse.dtype == full.dtype == torch.float32
        assert (coarse - full).abs().max() <= tolerance * full.abs().max()


def test_evaluation_counts_the_same(varied_run: Path, sample_root: Path) -> None:
    model = load_run(varied_run).model
    dataset = open_dataset("sample", sample_root, "train")
    matrices = {}
    for logits in ("coarse", "full"):
        evaluator = Evaluator(dataset, Runtime(CPU), IMAGENET, batch=2, logits=logits)
        matrices[logits] = evaluator.count(model).matrix
    assert torch.equal(matrices["coarse"], matrices["full"])
    assert (matrices["coarse"].sum(0) > 0).sum() > 5


@pytest.mark.usefixtures("no_pictures")
def test_command_evaluates_either_way(varied_run: Path, command: Command, tmp_path: Path) -> None:
    for logits in ("coarse", "full"):
        output = tmp_path / logits
        code, _, err = command(
            "evaluate", "--run", varied_run, "--logits", logits, "--output", output
        )
        assert code == 0, err
        assert json.loads((output / "metrics.json").read_text())["logits"] == logits
    tables = [(tmp_path / h / "confusion_matrix.csv").read_text() for h in ("coarse", "full")]
    assert tables[0] == tables[1]


@pytest.mark.usefixtures("no_pictures")
def test_coarse_scores_never_become_logits(
    tiny_options: TrainOptions,
    logits_forbidden: pytest.MonkeyPatch,
    command: Command,
    tmp_path: Path,
) -> None:
    """Training, evaluation and prediction alike; the other way shows that the guard works."""
    optim = replace(tiny_options.optim, steps=1)
    run = train(replace(tiny_options, optim=optim, output=tmp_path / "run"))
    assert command("evaluate", "--run", run, "--output", tmp_path / "report")[0] == 0
    Image.new("RGB", (30, 20)).save(tmp_path / "image.png")
    arguments = ("predict", tmp_path / "image.png", "--run", run, "--output", tmp_path / "out")
    assert command(*arguments)[0] == 0
    assert (tmp_path / "out" / "image.png").is_file()
    with pytest.raises(AssertionError, match="logits were materialized"):
        train(replace(tiny_options, optim=optim, logits="full", output=tmp_path / "other"))


def test_pictures_show_the_argmax_of_the_logits(varied_run: Path, sample_root: Path) -> None:
    model = load_run(varied_run).model
    dataset = open_dataset("sample", sample_root, "val")
    for index, row in enumerate(
        Evaluator(dataset, Runtime(CPU), IMAGENET).pictures(model, range(3))
    ):
        images = Runtime(CPU).images(image_to_tensor(dataset[index].image, IMAGENET)[None])
        with torch.inference_mode():
            expected = model(images).argmax(1)[0]
        np.testing.assert_array_equal(row.prediction, expected.numpy())
