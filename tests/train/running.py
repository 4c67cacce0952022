"""What the tests of whole runs share: ending one in its middle, comparing two, mistakes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fcn_train import training as loop
from fcn_train.history import SCORES, History
from fcn_train.optim import set_lr
from fcn_train.options import TrainOptions
from fcn_train.train import train

# Seconds after which a process hangs, however busy the machine: beside others, what takes two
# seconds may take a minute. Less than what processes wait for each other
# (`fcn_train.processes.PATIENCE`), as one that waits it out hangs, too.
HANGS = 300.0

FILES = {
    "best.safetensors",
    "checkpoints",
    "classes.json",
    "config.json",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "curves.png",
    "environment.json",
    "evaluations.csv",
    "last.safetensors",
    "metrics.json",
    "model_card.md",
    "overlays.png",
    "per_class.csv",
    "per_class.png",
    "per_image.csv",
    "report.html",
    "splits.json",
    "training.csv",
}


def assert_same_run(run: Path, expected: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        weights, wanted = load_file(run / name), load_file(expected / name)
        assert weights.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(weights[key], tensor), f"{name}: {key}"
    tables = {path.name for path in expected.glob("*.csv")}
    assert len(tables) >= 4
    for name in tables:
        assert (run / name).read_text() == (expected / name).read_text(), name


def assert_one_line(result: tuple[int, str, str], *parts: str | Path) -> None:
    """A command that gave ``result`` was refused in one line with these parts."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("fcn: ")
    assert err.count("\n") == 1
    for part in parts:
        assert str(part) in err


def during_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Do something in the middle of a step, counted from 1 where the process starts."""
    calls = 0

    def then_set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            action()
        set_lr(optimizer, factor)

    monkeypatch.setattr(loop, "set_lr", then_set_lr)


class Killed(BaseException):
    """Ends a run like SIGKILL does: nothing is saved on the way out."""


def kill() -> None:
    raise Killed


def killed(options: TrainOptions, run: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start ``run``, or go on with it where it is there, and kill it in the middle of a step."""
    begun = run if run.exists() else None
    if begun is None:
        options = replace(options, output=run)
    with monkeypatch.context() as patch:
        during_step(patch, step, kill)
        with pytest.raises(Killed):
            train(options, begun)
    return run


def scripted(monkeypatch: pytest.MonkeyPatch, scores: Callable[[int], float]) -> None:
    """Every score of an evaluation is what ``scores`` gives for its step."""
    add_scores = History.add_scores

    def add(self: History, step: int, epoch: float, found: Any) -> None:
        add_scores(self, step, epoch, SimpleNamespace(**dict.fromkeys(SCORES, scores(step))))

    monkeypatch.setattr(History, "add_scores", add)


def evaluated_steps(run: Path) -> list[int]:
    """The steps of the rows of ``evaluations.csv``."""
    with (run / "evaluations.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def longer(options: TrainOptions, **optim: Any) -> TrainOptions:
    return replace(options, optim=replace(options.optim, **optim))
