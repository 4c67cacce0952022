"""Networks from options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from fcn_train.options import ModelName, TrainOptions
from fcn_train.recipes import recipe_options
from fcn_train.run import load_run
from fcn_train.train import train


@pytest.mark.parametrize("name", get_args(ModelName))
def test_every_network_trains_and_loads(
    name: ModelName, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    default = recipe_options("default", name).model
    model = replace(default, width=0.05, fc_channels=min(16, default.fc_channels))
    optim = replace(tiny_options.optim, steps=1)
    run = load_run(train(replace(tiny_options, model=model, optim=optim, output=tmp_path / "run")))
    assert run.options.model.name == name
    assert run.model.score_fr.weight.count_nonzero() > 0
    assert run.model.predict(torch.randn(1, 3, 40, 50)).shape == (1, 40, 50)
