"""Networks from options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from fcn_ext.models import MODEL_NAMES
from fcn_train.model_options import ModelName, ModelOptions
from fcn_train.network import build_network
from fcn_train.option_rules import check
from fcn_train.options import TrainOptions
from fcn_train.recipes import recipe_options
from fcn_train.run import load_run
from fcn_train.train import train


def test_every_network_of_the_library_has_its_option() -> None:
    assert get_args(ModelName) == MODEL_NAMES


@pytest.mark.parametrize("name", get_args(ModelName))
def test_every_network_is_built(name: ModelName) -> None:
    options = replace(TrainOptions(), model=tiny(name))
    check(options)
    assert build_network(options.model, 3)(torch.randn(1, 3, 40, 50)).shape == (1, 3, 40, 50)


@pytest.mark.parametrize(
    "name",
    [
        *("fcn32s", "fcn16s", "fcn8s-atonce", "fcn-alexnet-8s", "fcn-alexnet-torchvision"),
        *("fcn-googlenet-8s-atonce", "fcn-squeezenet-16s", "fcn-pool4"),
    ],
)
@pytest.mark.usefixtures("no_pictures")
def test_every_trunk_trains_and_loads(
    name: ModelName, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    optim = replace(tiny_options.optim, steps=1)
    options = replace(tiny_options, model=tiny(name), optim=optim, output=tmp_path / "run")
    run = load_run(train(options))
    assert run.options.model.name == name
    for layer in run.model.score_layers:
        assert getattr(run.model, layer).weight.count_nonzero() > 0
    assert run.model.predict(torch.randn(1, 3, 40, 50)).shape == (1, 40, 50)


def tiny(name: ModelName) -> ModelOptions:
    default = recipe_options("default", name).model
    return replace(default, width=0.05, fc_channels=min(16, default.fc_channels))
