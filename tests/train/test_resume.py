"""An interruption leaves no trace in a run that is continued, and a finished run can go on."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcn_train import checkpoint, run_start
from fcn_train.config import load_config
from fcn_train.errors import Interrupted, UsageError
from fcn_train.network import build_network
from fcn_train.options import TrainOptions
from fcn_train.train import train

from .running import (
    FILES,
    Killed,
    assert_same_run,
    during_step,
    evaluated_steps,
    kill,
    killed,
    longer,
    scripted,
)

pytestmark = pytest.mark.usefixtures("no_pictures")


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
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    assert [p.name for p in checkpoint.checkpoints(run / "checkpoints")][-1] == "step-000004"
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_run_killed_before_its_first_checkpoint_starts_again(
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = killed(tiny_options, tmp_path / "run", 1, monkeypatch)
    train(load_config(run), run)
    assert_same_run(run, finished_run)


@pytest.mark.parametrize("name", ["classes.json", "splits.json", "environment.json", "all"])
def test_run_killed_while_it_began_has_every_file_later(
    name: str,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = killed(tiny_options, tmp_path / "run", 1, monkeypatch)
    begun = ["classes.json", "splits.json", "environment.json"]
    for missing in begun if name == "all" else [name]:
        (run / missing).unlink()
    train(load_config(run), run)
    assert {path.name for path in run.iterdir()} == FILES
    assert_same_run(run, finished_run)
    assert (run / "classes.json").read_text() == (finished_run / "classes.json").read_text()


def test_config_is_written_last(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It marks a run folder, so whoever finds it finds the rest as well."""
    run = tmp_path / "run"
    written = run_start.write_text

    def check(path: Path, text: str) -> None:
        if path.name == "config.json":
            assert {"classes.json", "splits.json"} <= {file.name for file in run.iterdir()}
            kill()
        written(path, text)

    monkeypatch.setattr(run_start, "write_text", check)
    with pytest.raises(Killed):
        train(replace(tiny_options, output=run))
    monkeypatch.setattr(run_start, "write_text", written)
    assert train(replace(tiny_options, output=run)) == run  # the folder holds no run yet


def test_leftovers_of_a_killed_run_are_removed(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(tiny_options, tmp_path / "run", 5, monkeypatch)
    (run / ".best.safetensors.tmp-1").write_bytes(b"half")
    (run / "checkpoints" / ".step-000004.tmp-1").mkdir()
    (run / "checkpoints" / ".step-000004.tmp-1" / "state.pt").write_bytes(b"half")
    train(load_config(run), run)
    assert not [path for path in run.rglob(".*")]


@pytest.mark.parametrize("schedule", ["fixed", "poly"])
def test_finished_run_is_trained_further(
    schedule: str, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    """By a fixed learning rate it becomes, bit by bit, the run that was longer from the start."""
    options = longer(tiny_options, schedule=schedule, steps=4)
    run = train(replace(options, output=tmp_path / "run"))
    train(longer(options, steps=8), run)
    assert load_config(run).optim.steps == 8
    assert json.loads((run / "metrics.json").read_text())["steps"] == 8
    with (run / "training.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)][-1] == 8
    if schedule == "fixed":
        whole = train(replace(longer(options, steps=8), output=tmp_path / "whole"))
        weights, expected = (load_file(r / "last.safetensors") for r in (run, whole))
        assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        # An interruption may have ended the run before its length.
        (
            {"steps": 8},
            {"steps": 0, "epochs": 2.0},
            "has taken 8 steps, more than 6; give more --optim.epochs$",
        ),
        (
            {"steps": 20},
            {"steps": 0, "epochs": 3.0},
            "was to take 20 steps, more than 9; .* not shorter: give more --optim.epochs$",
        ),
        (
            {"steps": 0, "epochs": 4.0},
            {"steps": 10},
            "was to take 12 steps, more than 10; .* give more --optim.steps$",
        ),
        (
            {"steps": 0, "epochs": 2.5},
            {"steps": 7},
            "has taken 8 steps, more than 7; give more --optim.steps$",
        ),
    ],
)
def test_run_is_not_made_shorter_in_other_units(
    before: dict[str, Any], now: dict[str, Any], message: str, finished_run: Path, tmp_path: Path
) -> None:
    """How many steps its epochs are is known with the images alone."""
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["optim"] |= {"epochs": 30.0, **before}
    (run / "config.json").write_text(json.dumps(config))
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = longer(load_config(run), **now)
    with pytest.raises(UsageError, match=f"{run}: {message}"):
        train(options, run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"steps": 4}, {"steps": 0, "epochs": 2.0}),  # fewer epochs than the 30 that had no effect
        ({"steps": 0, "epochs": 1.0}, {"steps": 6}),
    ],
)
def test_run_is_made_longer_in_other_units(
    before: dict[str, Any], now: dict[str, Any], tiny_options: TrainOptions, tmp_path: Path
) -> None:
    options = longer(tiny_options, **before)
    run = train(replace(options, output=tmp_path / "run"))
    train(longer(options, **now), run)
    assert json.loads((run / "metrics.json").read_text())["steps"] == 6


# Scores by step, patience, the steps of a run at first, the one at which it ends when it is made
# longer, and where one ends that was that long from the start. There is an evaluation every three
# steps, and one at the end.
STOPS = {
    "the former end is no evaluation": ({}, 3, 7, 12, 12),
    "nor the best one": ({7: 0.9, 9: 0.5}, 2, 7, 15, 15),
    "the former end is one of the evaluations": ({}, 3, 6, 12, 12),
    "patience had ended it": ({}, 1, 50, 9, 6),
    "it would have ended right there": ({}, 1, 6, 9, 6),
    "patience had ended it before a rise": ({9: 0.5}, 1, 50, 12, 6),
}


@pytest.mark.parametrize("name", list(STOPS))
def test_patience_of_a_run_that_is_made_longer(
    name: str,
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends where the run that was that long from the start does. That one may end at once where
    the other was made longer, which counts from there."""
    scores, patience, steps, end, end_of_whole = STOPS[name]
    scripted(monkeypatch, lambda step: scores.get(step, 0.2))
    options = replace(longer(tiny_options, schedule="fixed", steps=steps), patience=patience)
    run = train(replace(options, output=tmp_path / "run"))
    former = json.loads((run / "metrics.json").read_text())["steps"]
    further = longer(options, steps=60)
    broken = Path(shutil.copytree(run, tmp_path / "broken"))
    train(further, run)
    assert json.loads((run / "metrics.json").read_text())["steps"] == end
    assert evaluated_steps(run) == sorted({*range(3, end + 1, 3), former})
    whole = train(replace(further, output=tmp_path / "whole"))
    assert json.loads((whole / "metrics.json").read_text())["steps"] == end_of_whole
    # Killed before it has taken a step, it is the same in the end.
    killed(further, broken, 1, monkeypatch)
    train(load_config(broken), broken)
    assert_same_run(broken, run)


def test_another_patience_goes_on_with_a_run(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, lambda step: 0.2)
    options = replace(longer(tiny_options, steps=50), patience=1)
    run = train(replace(options, output=tmp_path / "run"))
    for patience, end in ((3, 12), (4, 15), (2, 21)):
        train(replace(options, patience=patience), run)
        assert evaluated_steps(run) == list(range(3, end + 1, 3))


@pytest.mark.parametrize("own", ["profile.csv", "tensorboard"])
def test_what_a_run_goes_on_without_is_removed(
    own: str, tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(longer(tiny_options, steps=4), profile=True, tensorboard=True)
    run = train(replace(options, output=tmp_path / "run"))
    (run / "tensorboard" / "events.out.tfevents.1.mine").write_text("of another program")
    (run / "profile-mine.csv").write_text("notes")
    goes_on = {"profile.csv": {"profile": True}, "tensorboard": {"tensorboard": True}}
    other = {"profile": False, "tensorboard": False, **goes_on[own]}
    train(replace(longer(options, steps=5), **other), run)
    assert (run / "profile.csv").exists() == (own == "profile.csv")
    assert (run / "profile-mine.csv").exists()
    curves = [path.suffix for path in (run / "tensorboard").iterdir()]
    assert ".fcn" in curves if own == "tensorboard" else curves == [".mine"]


def test_run_killed_while_it_was_trained_further_goes_on(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = longer(tiny_options, steps=4)
    run = train(replace(options, output=tmp_path / "run"))
    expected = Path(shutil.copytree(run, tmp_path / "expected"))
    train(longer(options, steps=8), expected)
    killed(longer(options, steps=8), run, 4, monkeypatch)
    assert not (run / "last.safetensors").exists()  # those of step 4 are the last no more
    train(load_config(run), run)
    assert_same_run(run, expected)


def foreign_state(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change a checkpoint's state, with a valid checksum."""

    def apply(path: Path) -> None:
        saved = checkpoint.load_checkpoint(path)
        change(saved.state)
        checkpoint.save_checkpoint(path.parent, saved.step, saved.weights, saved.state)

    return apply


def foreign_weights(path: Path) -> None:
    saved = checkpoint.load_checkpoint(path)
    weights = {**saved.weights, "conv1_1.weight": torch.zeros(9, 3, 3, 3)}
    checkpoint.save_checkpoint(path.parent, saved.step, weights, saved.state)


def other_buffers(state: dict[str, Any]) -> None:
    for values in state["optimizer"]["state"].values():
        values["momentum_buffer"] = torch.zeros(3)


FOREIGN = {
    "no optimizer": foreign_state(lambda state: state.pop("optimizer")),
    "no history": foreign_state(lambda state: state.pop("history")),
    "unknown field": foreign_state(lambda state: state["history"].update(accuracy=[])),
    "history of another shape": foreign_state(
        lambda state: state["history"].update(training=[[1]])
    ),
    "history of text": foreign_state(lambda state: state["history"].update(pending=["x"])),
    "another history": foreign_state(lambda state: state.update(history=[])),
    "another optimizer": foreign_state(lambda state: state.update(optimizer={"a": 1})),
    "another learning rate": foreign_state(
        lambda state: state["optimizer"]["param_groups"][0].update(base_lr=7.0)
    ),
    "a group fewer": foreign_state(lambda state: state["optimizer"]["param_groups"].pop()),
    "buffers of another shape": foreign_state(other_buffers),
    "another step": foreign_state(lambda state: state.update(step=5)),
    "weights of another network": foreign_weights,
}


@pytest.mark.parametrize("name", list(FOREIGN))
def test_foreign_checkpoint_gives_way_to_the_one_before(
    name: str,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = killed(tiny_options, tmp_path / "run", 7, monkeypatch)
    FOREIGN[name](run / "checkpoints" / "step-000006")
    train(load_config(run), run)
    captured = capsys.readouterr()
    newest = run / "checkpoints" / "step-000006"
    said = [line for line in captured.err.splitlines() if "checkpoints" in line]
    assert len(said) == 1
    assert said[0].startswith(f"warning: {newest}: is not of this run's network and optimizer (")
    assert "steps 4 to 8" in captured.out
    assert_same_run(run, finished_run)


def test_run_without_a_checkpoint_that_can_be_used_is_not_started_again(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    for path in checkpoint.checkpoints(run / "checkpoints"):
        (path / "state.pt").unlink()
    with pytest.raises(UsageError, match="checkpoints: holds no checkpoint that can be used"):
        train(load_config(run), run)
    shutil.rmtree(run / "checkpoints")
    train(load_config(run), run)


@pytest.mark.parametrize("finished", [True, False])
def test_weights_of_a_run_are_not_replaced_where_its_checkpoints_were_removed(
    finished: bool, finished_run: Path, tmp_path: Path
) -> None:
    """As people do to save room: made longer, such a run began again without a word."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "checkpoints")
    if not finished:
        (run / "metrics.json").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"has no checkpoint to go on from, .* --init-weights"):
        train(longer(load_config(run), steps=12) if finished else load_config(run), run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "last.safetensors").unlink()
    train(longer(load_config(run), steps=12) if finished else load_config(run), run)


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
    run = killed(options, tmp_path / "run", 1, monkeypatch)
    assert_same_run(train(load_config(run), run), expected)
