"""Training the score layers alone, as in FCN-32s-fixed, or faster than the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train.checkpoint import Checkpoint
from fcn_train.config import load_config
from fcn_train.console import Console
from fcn_train.errors import UsageError
from fcn_train.network import build_network
from fcn_train.optim import build_optimizer
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.state import TrainingState
from fcn_train.train import train

from .running import assert_same_run, killed

pytestmark = pytest.mark.usefixtures("no_pictures")


def options_of(tiny_options: TrainOptions, **model: str) -> TrainOptions:
    optim = replace(tiny_options.optim, layers="scores", steps=4)
    return replace(
        tiny_options, model=replace(tiny_options.model, **model), optim=optim, evaluate_every=0.5
    )


def test_all_but_the_scores_stay_as_they_were(tiny_options: TrainOptions, tmp_path: Path) -> None:
    """Statistics of batch normalization among them, over several evaluations."""
    options = options_of(tiny_options, name="fcn32s", upsampling="depthwise")
    lines: list[str] = []
    console = Console()
    console.line = lines.append  # type: ignore[method-assign]
    run = train(replace(options, output=tmp_path / "run"), console=console)
    torch.manual_seed(options.seed)
    start = build_network(options.model, 21).state_dict()
    end = load_run(run).model.state_dict()
    moved = [name for name, value in end.items() if not torch.equal(value, start[name])]
    assert moved == ["score_fr.weight", "score_fr.bias", "upscore.weight"]
    trained = sum(end[name].numel() for name in moved)
    assert any(f" parameters, {trained:,} of them trained, " in line for line in lines)


def test_an_interruption_leaves_no_trace(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(tiny_options)
    run = train(replace(options, output=tmp_path / "whole"))
    halved = killed(options, tmp_path / "halved", 4, monkeypatch)
    train(options, halved)
    assert_same_run(halved, run)


@pytest.mark.parametrize("optim", [{"score_lr": 4.0}, {"method": "adamw", "lr": 1e-3}])
def test_optimizers_are_resumed(
    optim: dict[str, Any],
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = replace(tiny_options, optim=replace(tiny_options.optim, steps=4, **optim))
    run = train(replace(options, output=tmp_path / "whole"))
    halved = killed(options, tmp_path / "halved", 4, monkeypatch)
    train(load_config(halved), halved)
    assert_same_run(halved, run)


def test_checkpoints_of_another_optimizer_are_refused(tiny_options: TrainOptions) -> None:
    def state(**optim: Any) -> TrainingState:
        model = build_network(tiny_options.model, 21)
        options = replace(tiny_options.optim, **optim)
        return TrainingState(model, build_optimizer(model, options, torch.device("cpu")))

    kinds: list[dict[str, Any]] = [
        {"score_lr": 4.0},
        {"score_lr": 1.0},
        {"score_lr": 5.0},
        {"method": "adamw", "score_lr": 4.0},
        {"method": "adamw", "score_lr": 4.0, "momentum": 0.8},
    ]
    for one in kinds:
        saved = state(**one)
        checkpoint = Checkpoint(Path("step-000000"), 0, saved.weights(), saved.progress())
        for other in kinds:
            if other is one:
                state(**other).restore(checkpoint)
                continue
            with pytest.raises(UsageError, match="is not of this run's network and optimizer"):
                state(**other).restore(checkpoint)
