"""Networks from options, and what they start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fcn_train.train as loop
from fcn_train.errors import UsageError
from fcn_train.network import build_network
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


def test_finer_network_starts_from_the_coarser_run(
    finished_run: Path, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    coarse = train(
        replace(
            tiny_options,
            model=replace(tiny_options.model, name="fcn32s"),
            optim=replace(tiny_options.optim, steps=1),
            output=tmp_path / "coarse",
        )
    )
    options = replace(tiny_options, init_coarser=coarse)
    train_set, _ = loop.open_splits(options.data)
    model = loop.initial_network(options, train_set, resumed=False)
    assert torch.equal(
        model.state_dict()["fc6.weight"], load_run(coarse).model.state_dict()["fc6.weight"]
    )
    assert not model.state_dict()["score_pool3.weight"].any()
    with pytest.raises(UsageError, match="does not fit the network: coarser must have fewer skips"):
        loop.initial_network(replace(options, init_coarser=finished_run), train_set, resumed=False)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_network_starts_from_a_classifier(
    suffix: str, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    model_options = replace(tiny_options.model, batch_norm=False)
    source = build_network(model_options, 5).state_dict()
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(source, path)
    elif suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in source.items()})
    else:
        save_file(source, path)
    options = replace(tiny_options, model=model_options, init_classifier=path)
    train_set, _ = loop.open_splits(options.data)
    model = loop.initial_network(options, train_set, resumed=False)
    assert torch.equal(model.state_dict()["conv3_1.weight"], source["conv3_1.weight"])
    wider = replace(options, model=replace(model_options, width=0.1))
    with pytest.raises(UsageError, match=r"vgg16.* does not fit the network: .*must have shape"):
        loop.initial_network(wider, train_set, resumed=False)


def test_classifier_that_is_no_file_of_weights(tiny_options: TrainOptions, tmp_path: Path) -> None:
    train_set, _ = loop.open_splits(tiny_options.data)
    hostile = tmp_path / "hostile.pth"
    torch.save({"weight": Path("anything")}, hostile)
    for path, message in (
        (tmp_path / "absent.pth", "cannot be read"),
        (hostile, "holds more than tensors and is not loaded"),
    ):
        with pytest.raises(UsageError, match=message):
            loop.initial_network(
                replace(tiny_options, init_classifier=path), train_set, resumed=False
            )
