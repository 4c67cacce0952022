"""A data set of two sets of labels, and runs on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcn_train.data import write_sample_dataset
from fcn_train.options import DataOptions, ModelOptions, OptimOptions, TrainOptions
from fcn_train.train import train


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sift-flow"
    return write_sample_dataset(folder, layout="sift-flow", train=4, val=2, size=48)


@pytest.fixture(scope="session")
def options(root: Path) -> TrainOptions:
    """Four steps with everything that draws random numbers switched on."""
    return TrainOptions(
        data=DataOptions(
            kind="sift-flow",
            root=root,
            label_folder="SemanticLabels,GeoLabels",
            train_split="trainval",
            val_split="test",
            crop=32,
            scale=(0.8, 1.2),
        ),
        model=ModelOptions(width=0.05, fc_channels=16),
        optim=OptimOptions(batch=1, accumulate=2, lr=0.05, steps=4),
        evaluate_every=1.0,
        checkpoint_every=2,
        threads=1,
    )


@pytest.fixture
def flags(root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Of a tiny run in tmp_path / "run"."""
    return (
        *("--data.kind", "sift-flow", "--data.root", root, "--data.crop", "32"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--threads", "1"),
        *("--optim.batch", "2", "--optim.steps", "1", "--output", tmp_path / "run"),
    )


@pytest.fixture(scope="session")
def both(options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two sets of labels, without its pictures."""
    torch.set_num_threads(1)
    return train(replace(options, output=tmp_path_factory.mktemp("run") / "both"))


@pytest.fixture(scope="session")
def semantic(options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `both`, of the semantic labels alone."""
    data = replace(options.data, label_folder="SemanticLabels")
    output = tmp_path_factory.mktemp("run") / "semantic"
    return train(replace(options, data=data, output=output))
