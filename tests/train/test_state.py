"""What a checkpoint keeps of a run in progress, and checkpoints of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train.checkpoint import Checkpoint
from fcn_train.errors import UsageError
from fcn_train.network import build_network
from fcn_train.optim import build_optimizer
from fcn_train.options import ModelOptions, OptimOptions
from fcn_train.state import TrainingState

PATH = Path("run/checkpoints/step-000000")


@pytest.fixture(scope="module")
def state() -> TrainingState:
    model = build_network(ModelOptions(name="fcn32s", width=0.02, fc_channels=4), 3)
    return TrainingState(model, build_optimizer(model, OptimOptions(), torch.device("cpu")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.update(step=5), "its state is of step 5"),
        (lambda saved: saved.pop("optimizer"), "it lacks 'optimizer'"),
        (
            lambda saved: saved["optimizer"]["param_groups"][0].update(weight_decay=7.0),
            r"weight_decay must be .*, got 7\.0",
        ),
        (
            lambda saved: saved["optimizer"]["state"].update({999: {}}),
            r"the optimizer must hold values of its \d+ parameters alone, got some of number 999",
        ),
        (
            lambda saved: saved["optimizer"]["state"].update(
                {0: {"momentum_buffer": torch.ones(7)}}
            ),
            r"momentum_buffer must have shape \(.*\), got \(7,\)",
        ),
    ],
)
def test_what_is_of_another_run_is_named(
    change: Callable[[dict[str, Any]], object], message: str, state: TrainingState
) -> None:
    state.restore(Checkpoint(PATH, 0, state.weights(), state.progress()))
    saved = state.progress()
    change(saved)
    message = rf"^{PATH}: is not of this run's network and optimizer \({message}\)$"
    with pytest.raises(UsageError, match=message):
        state.restore(Checkpoint(PATH, 0, state.weights(), saved))
