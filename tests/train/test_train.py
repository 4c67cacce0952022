"""The loop as a whole: what a run leaves, and that an interruption leaves no trace in it."""

from __future__ import annotations

import csv
import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fcn_train import checkpoint, pictures
from fcn_train import train as loop
from fcn_train.config import load_config
from fcn_train.errors import Interrupted, TrainingError, UsageError
from fcn_train.loss import pixel_loss
from fcn_train.network import build_network
from fcn_train.optim import set_lr
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.run_folder import check_continuation, find_run
from fcn_train.train import train

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
    "overlays.png",
    "per_class.csv",
    "per_class.png",
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
    for name in ("training.csv", "evaluations.csv", "per_class.csv", "confusion_matrix.csv"):
        assert (run / name).read_text() == (expected / name).read_text(), name


def during_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Do something in the middle of a step, counted from 1."""
    calls = 0

    def then_set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            action()
        set_lr(optimizer, factor)

    monkeypatch.setattr(loop, "set_lr", then_set_lr)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, finished_run: Path) -> None:
    """They take most of the time of a tiny run; ``finished_run`` has drawn them already."""
    for name in ("draw_curves", "draw_class_bars", "draw_confusion", "draw_overlays"):
        monkeypatch.setattr(pictures, name, lambda *arguments: None)


class Killed(BaseException):
    """Ends a run like SIGKILL does: nothing is saved on the way out."""


def kill() -> None:
    raise Killed


def test_run_leaves_every_file(finished_run: Path, tiny_options: TrainOptions) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES
    assert replace(load_config(finished_run), output=None) == tiny_options
    with (finished_run / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6, 8]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    with (finished_run / "evaluations.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 6, 8]
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert metrics["steps"] == 8
    assert 0 <= metrics["mean_iu"] <= metrics["pixel_accuracy"] <= 1
    assert len(metrics["classes"]) == 21
    assert [p.name for p in checkpoint.checkpoints(finished_run / "checkpoints")] == [
        "step-000006",
        "step-000008",
    ]


def test_files_name_no_folder_of_the_machine(finished_run: Path) -> None:
    for name in ("environment.json", "metrics.json", "classes.json", "training.csv"):
        assert str(finished_run.parent) not in (finished_run / name).read_text()


@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_interrupted_run_continues_bit_equal(
    step: int,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"stopped after step {step}; continue with") as stop:
            train(replace(tiny_options, output=run))
    assert stop.value.signum == signal.SIGTERM
    saved = checkpoint.load_checkpoint(checkpoint.checkpoints(run / "checkpoints")[-1])
    assert saved.step == step
    torch.manual_seed(12345)  # the state of the global generator must not matter
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_killed_run_continues_bit_equal(
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a chance to save, the last periodic checkpoint is what there is."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 6, kill)
        with pytest.raises(Killed):
            train(replace(tiny_options, output=run))
    assert [p.name for p in checkpoint.checkpoints(run / "checkpoints")][-1] == "step-000004"
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_run_killed_before_its_first_checkpoint_starts_again(
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 1, kill)
        with pytest.raises(Killed):
            train(replace(tiny_options, output=run))
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_loader_processes_change_no_bit(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    options = replace(tiny_options, data=replace(tiny_options.data, workers=1, memory=True))
    assert_same_run(train(replace(options, output=tmp_path / "run")), finished_run)


def test_another_seed_gives_another_run(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    run = train(replace(tiny_options, seed=1, output=tmp_path / "run"))
    assert (run / "training.csv").read_text() != (finished_run / "training.csv").read_text()


def test_finished_run_is_left_alone(
    finished_run: Path, tiny_options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished_run / "metrics.json").stat().st_mtime_ns
    assert train(tiny_options, finished_run) == finished_run
    assert "finished already" in capsys.readouterr().out
    assert (finished_run / "metrics.json").stat().st_mtime_ns == before


def test_resume_refuses_another_configuration(
    finished_run: Path, tiny_options: TrainOptions
) -> None:
    technical = replace(tiny_options, threads=2, log_every=1)
    check_continuation(finished_run, technical)
    with pytest.raises(UsageError, match="logits = 'coarse', not 'full'"):
        check_continuation(finished_run, replace(tiny_options, logits="full"))
    with pytest.raises(UsageError, match=r"model\.width = 0\.05, not 0\.1"):
        check_continuation(
            finished_run, replace(tiny_options, model=replace(tiny_options.model, width=0.1))
        )


def test_resume_finds_the_newest_unfinished_run(
    in_folder: Path, finished_run: Path, tiny_options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_run("auto", None) is None
    assert find_run("auto", in_folder / "nothing") is None
    assert find_run("auto", finished_run) == finished_run
    with pytest.raises(UsageError, match="is no run folder"):
        find_run("elsewhere", None)
    runs = [Path("runs") / f"sample-fcn8s-00{i}" for i in (1, 2)]
    for run in runs:
        with monkeypatch.context() as patch:
            during_step(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Interrupted):
                train(tiny_options)
        assert run.is_dir()
    assert find_run("auto", None) == runs[1]


def test_loss_that_is_not_finite_stops_the_run(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def broken_loss(*arguments: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return pixel_loss(*arguments, **options) * (float("nan") if calls == 10 else 1.0)

    run = tmp_path / "run"
    monkeypatch.setattr(loop, "pixel_loss", broken_loss)
    with pytest.raises(TrainingError, match="step 5: the loss is nan on the images tr") as e:
        train(replace(tiny_options, output=run))
    assert "step-000004" in str(e.value)
    saved = checkpoint.load_checkpoint(checkpoint.checkpoints(run / "checkpoints")[-1])
    assert saved.step == 4
    assert all(torch.isfinite(tensor).all() for tensor in saved.weights.values())


def test_training_lowers_the_loss(tiny_options: TrainOptions, tmp_path: Path) -> None:
    optim = replace(tiny_options.optim, steps=24, batch=2, accumulate=1)
    options = replace(tiny_options, optim=optim, evaluate_every=0, output=tmp_path / "run")
    train(options)
    with (tmp_path / "run" / "training.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


@pytest.mark.parametrize(
    "changes", [{"amp": "bf16"}, {"channels_last": True}], ids=["bf16", "channels_last"]
)
def test_precision_and_layout(
    changes: dict[str, Any], tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    options = replace(tiny_options, **changes, output=tmp_path / "run")
    optim = replace(options.optim, steps=3, class_weights="median-frequency", loss="sum", lr=1e-5)
    run = train(replace(options, optim=optim))
    assert load_run(run).model.state_dict()["score_fr.weight"].dtype == torch.float32


def test_run_that_starts_again_starts_from_its_sources(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed before its first checkpoint has nothing but its options to go by."""
    model_options = replace(tiny_options.model, batch_norm=False)
    save_file(build_network(model_options, 5).state_dict(), tmp_path / "vgg16.safetensors")
    options = replace(
        tiny_options,
        model=model_options,
        optim=replace(tiny_options.optim, steps=2),
        init_classifier=tmp_path / "vgg16.safetensors",
    )
    expected = train(replace(options, output=tmp_path / "expected"))
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 1, kill)
        with pytest.raises(Killed):
            train(replace(options, output=run))
    assert_same_run(train(load_config(run), run), expected)
