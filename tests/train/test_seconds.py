"""How long a run was worked at, as its metrics tell."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fcn_train import checkpoint, state
from fcn_train.config import load_config
from fcn_train.errors import Interrupted, UsageError
from fcn_train.options import TrainOptions
from fcn_train.train import train

from .running import during_step, killed, longer

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize("end", ["stopped", "killed", "finished"])
def test_seconds_are_those_of_all_commands(
    end: str, tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes ten seconds here, by a clock that stands still otherwise."""
    run, clock, options = tmp_path / "run", SimpleNamespace(now=1000.0), tiny_options
    monkeypatch.setattr(state.time, "monotonic", lambda: clock.now)
    update = state.TrainingState.update

    def slow(self: state.TrainingState, *arguments: Any) -> None:
        update(self, *arguments)
        clock.now += 10

    monkeypatch.setattr(state.TrainingState, "update", slow)
    if end == "finished":
        train(replace(longer(options, steps=5), output=run))
        assert json.loads((run / "metrics.json").read_text())["seconds"] == 50
    elif end == "killed":  # in step 6, so what came after step 4 is lost
        killed(options, run, 6, monkeypatch)
    else:
        with monkeypatch.context() as patch:
            during_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(Interrupted):
                train(replace(options, output=run))
    clock.now += 5000  # when nobody worked at it
    train(options, run)
    assert json.loads((run / "metrics.json").read_text())["seconds"] == 80


@pytest.mark.parametrize("value", [None, "soon", float("nan"), -1.0])
def test_checkpoints_of_no_time_and_of_odd_ones(
    value: Any, tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a time before there was one are taken, and damaged ones are not."""
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    for path in checkpoint.checkpoints(run / "checkpoints"):
        saved = checkpoint.load_checkpoint(path)
        saved.state.pop("seconds")
        if value is not None:
            saved.state["seconds"] = value
        checkpoint.save_checkpoint(path.parent, saved.step, saved.weights, saved.state)
    refused = pytest.raises(UsageError, match="holds no checkpoint that can be used")
    with contextlib.nullcontext() if value is None else refused:
        train(load_config(run), run)
