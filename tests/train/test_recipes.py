"""The named recipes stand for the published values."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from fcn_train.data import IMAGENET, image_to_tensor
from fcn_train.data_options import DataKind, default_splits
from fcn_train.errors import UsageError
from fcn_train.model_options import ModelName
from fcn_train.network import normalization_of
from fcn_train.option_rules import check
from fcn_train.options import RecipeName, TrainOptions
from fcn_train.recipes import recipe_options


@pytest.mark.parametrize(
    ("model", "lr", "steps"),
    [
        ("fcn32s", 1e-10, 100_000),
        ("fcn16s", 1e-12, 100_000),
        ("fcn8s", 1e-14, 100_000),
        ("fcn8s-atonce", 1e-10, 300_000),
    ],
)
def test_heavy_learning(model: ModelName, lr: float, steps: int) -> None:
    options = recipe_options("heavy", model, "voc")
    optim = options.optim
    assert (optim.batch, optim.accumulate, optim.momentum) == (1, 1, 0.99)
    assert (optim.lr, optim.steps, optim.loss) == (lr, steps, "sum")
    assert (optim.weight_decay, optim.bias_lr, optim.bias_decay) == (5e-4, 2.0, 0.0)
    assert optim.schedule == "fixed"
    assert (options.data.crop, options.data.mirror, options.data.sampling) == (
        0,
        False,
        "replacement",
    )
    assert options.model.name == model


def test_heavy_learning_of_other_data_sets() -> None:
    """SIFT Flow's finest net learns faster, PASCAL-Context's nets longer."""
    optim = recipe_options("heavy", "fcn8s", "sift-flow").optim
    assert (optim.lr, optim.steps) == (1e-12, 100_000)
    for recipe in get_args(RecipeName):
        data = recipe_options(recipe, "fcn8s", "sift-flow").data
        assert (data.train_split, data.val_split) == ("trainval", "test")
    for kind in ("pascal-context", "pascal-context-33"):
        optim = recipe_options("heavy", "fcn16s", kind).optim  # type: ignore[arg-type]
        assert (optim.lr, optim.steps) == (1e-12, 400_000)
    optim = recipe_options("heavy", "fcn32s", "nyud").optim
    assert (optim.lr, optim.steps) == (1e-10, 100_000)


@pytest.mark.parametrize(
    ("kind", "mean"),
    [
        ("voc", (122.67892, 116.66877, 104.00699)),
        ("sbd", (122.67892, 116.66877, 104.00699)),
        ("pascal-context", (122.67892, 116.66877, 104.00699)),
        ("nyud", (92.318, 97.203, 116.190)),
        ("sift-flow", (108.353, 115.294, 114.578)),
    ],
)
def test_each_set_has_its_published_mean_color(
    kind: DataKind, mean: tuple[float, float, float]
) -> None:
    """Those of the reference repository's data layers, here as R, G, B."""
    for recipe in ("paper", "heavy"):
        model = recipe_options(recipe, "fcn32s", kind).model  # type: ignore[arg-type]
        normalization = normalization_of(model)
        assert (normalization.mean, normalization.bgr) == (mean, True)
        red = image_to_tensor(np.full((1, 1, 3), (255, 0, 0), dtype=np.uint8), normalization)
        assert red.ravel().tolist() == pytest.approx([-mean[2], -mean[1], 255 - mean[0]])
    default = recipe_options("default", "fcn8s", kind).model
    assert normalization_of(default) == IMAGENET


def test_nyud_is_trained_on_trainval_and_scored_on_test() -> None:
    for recipe in get_args(RecipeName):
        data = recipe_options(recipe, "fcn32s", "nyud").data
        assert (data.train_split, data.val_split) == default_splits("nyud") == ("trainval", "test")


def test_paper() -> None:
    options = recipe_options("paper", "fcn16s", "voc")
    optim = options.optim
    assert optim.batch * optim.accumulate == 20
    assert (optim.lr, optim.momentum, optim.weight_decay) == (1e-4, 0.9, 5e-4)
    assert (optim.bias_lr, optim.bias_decay, optim.loss) == (2.0, 0.0, "mean")
    assert (optim.schedule, optim.epochs, optim.steps) == ("fixed", 175.0, 0)


@pytest.mark.parametrize("model", ["fcn-alexnet", "fcn-alexnet-torchvision"])
def test_alexnet(model: ModelName) -> None:
    """Ten times VGG16's rate in the paper; the reference repository's solver is not heavy."""
    paper, reference = (recipe_options(recipe, model, "voc") for recipe in ("paper", "heavy"))
    for options in (paper, reference):
        assert options.optim.batch * options.optim.accumulate == 20
        assert (options.optim.momentum, options.optim.loss) == (0.9, "mean")
        assert options.model.input == ("caffe" if model == "fcn-alexnet" else "imagenet")
    assert (paper.optim.lr, paper.optim.epochs, paper.optim.steps) == (1e-3, 175.0, 0)
    assert (paper.optim.bias_lr, paper.optim.bias_decay) == (2.0, 0.0)
    assert (reference.optim.lr, reference.optim.steps) == (1e-4, 100_000)
    assert (reference.optim.bias_lr, reference.optim.bias_decay) == (1.0, 1.0)
    assert (paper.data.sampling, reference.data.sampling) == ("shuffle", "replacement")


@pytest.mark.parametrize("model", ["fcn-googlenet", "fcn-googlenet-8s"])
def test_googlenet(model: ModelName) -> None:
    """A rate of its own in the paper; the reference repository never had it."""
    options = recipe_options("paper", model, "voc")
    assert options.optim.batch * options.optim.accumulate == 20
    assert (options.optim.lr, options.optim.epochs) == (5e-5, 175.0)
    assert (options.model.dropout, options.model.fc_channels) == (0.4, 0)
    assert options.model.input == "caffe"
    default = recipe_options("default", model).model
    assert (default.dropout, default.fc_channels) == (0.4, 0)
    with pytest.raises(UsageError, match=rf"--model\.fc-channels must be 0 for {model}, which"):
        check(replace(options, model=replace(options.model, fc_channels=8)))


def test_squeezenet() -> None:
    """In no publication: VGG16's rate, Caffe's images."""
    options = recipe_options("paper", "fcn-squeezenet-8s", "voc")
    assert (options.optim.lr, options.optim.momentum) == (1e-4, 0.9)
    assert (options.model.dropout, options.model.fc_channels) == (0.5, 0)
    assert options.model.input == "caffe"
    assert recipe_options("default", "fcn-squeezenet").model.fc_channels == 0


@pytest.mark.parametrize(
    "model", ["fcn16s-atonce", "fcn-alexnet-16s", "fcn-googlenet", "fcn-squeezenet-8s"]
)
def test_networks_without_a_published_solver(model: ModelName) -> None:
    with pytest.raises(UsageError, match=rf"--recipe heavy .* no {model}; use paper"):
        recipe_options("heavy", model, "voc")


@pytest.mark.parametrize("recipe", ["paper", "heavy"])
def test_published_recipes_take_the_published_network(recipe: str) -> None:
    model = recipe_options(recipe).model  # type: ignore[arg-type]
    assert (model.width, model.padding, model.batch_norm) == (1.0, "published", False)
    assert (model.dropout, model.input, model.fc_channels) == (0.5, "caffe", 0)


def test_default_is_the_default_of_the_options() -> None:
    assert recipe_options() == TrainOptions()


def test_photographs_are_cut_larger_than_the_sample() -> None:
    assert recipe_options("default", "fcn16s", "camvid").data.crop > TrainOptions().data.crop
