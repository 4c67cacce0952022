"""The loop as a whole: what a run leaves, and that an interruption leaves no trace in it."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fcn_train import checkpoint, pictures
from fcn_train import training as loop
from fcn_train.config import load_config
from fcn_train.data import DataError
from fcn_train.data.problems import Problem
from fcn_train.errors import Interrupted, StateSaved, TrainingError, UsageError
from fcn_train.evaluate import Evaluator
from fcn_train.history import SCORES, History
from fcn_train.loss import pixel_loss
from fcn_train.network import build_network
from fcn_train.optim import set_lr
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.state import TrainingState
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


@pytest.mark.parametrize("name", ["classes.json", "splits.json", "environment.json", "all"])
def test_run_killed_while_it_began_has_every_file_later(
    name: str,
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
    begun = ["classes.json", "splits.json", "environment.json"]
    for missing in begun if name == "all" else [name]:
        (run / missing).unlink()
    train(load_config(run), run)
    assert {path.name for path in run.iterdir()} == {n for n in FILES if not n.endswith(".png")}
    assert_same_run(run, finished_run)
    assert (run / "classes.json").read_text() == (finished_run / "classes.json").read_text()


def test_config_is_written_last(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It marks a run folder, so whoever finds it finds the rest as well."""
    run = tmp_path / "run"
    written = loop.write_text

    def check(path: Path, text: str) -> None:
        if path.name == "config.json":
            assert {"classes.json", "splits.json"} <= {file.name for file in run.iterdir()}
            kill()
        written(path, text)

    monkeypatch.setattr(loop, "write_text", check)
    with pytest.raises(Killed):
        train(replace(tiny_options, output=run))
    monkeypatch.setattr(loop, "write_text", written)
    assert train(replace(tiny_options, output=run)) == run  # the folder holds no run yet


def test_leftovers_of_a_killed_run_are_removed(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 5, kill)
        with pytest.raises(Killed):
            train(replace(tiny_options, output=run))
    (run / ".best.safetensors.tmp-1").write_bytes(b"half")
    (run / "checkpoints" / ".step-000004.tmp-1").mkdir()
    (run / "checkpoints" / ".step-000004.tmp-1" / "state.pt").write_bytes(b"half")
    train(load_config(run), run)
    assert not [path for path in run.rglob(".*")]


def longer(options: TrainOptions, **optim: Any) -> TrainOptions:
    return replace(options, optim=replace(options.optim, **optim))


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


def test_run_killed_while_it_was_trained_further_goes_on(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = longer(tiny_options, steps=4)
    run = train(replace(options, output=tmp_path / "run"))
    expected = Path(shutil.copytree(run, tmp_path / "expected"))
    train(longer(options, steps=8), expected)
    with monkeypatch.context() as patch:
        during_step(patch, 4, kill)
        with pytest.raises(Killed):
            train(longer(options, steps=8), run)
    assert not (run / "last.safetensors").exists()  # those of step 4 are the last no more
    train(load_config(run), run)
    assert_same_run(run, expected)


def test_training_ends_when_the_score_stays(
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = iter([0.2, 0.3, 0.1, 0.3, 0.4])
    add_scores = History.add_scores

    def scripted(self: History, step: int, epoch: float, found: Any) -> None:
        add_scores(self, step, epoch, SimpleNamespace(**dict.fromkeys(SCORES, next(scores))))

    monkeypatch.setattr(History, "add_scores", scripted)
    options = replace(longer(tiny_options, steps=50), patience=2, output=tmp_path / "run")
    run = train(options)
    assert "mean IU has not risen for 2 evaluations, training ends" in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["steps"] == 12
    with (run / "evaluations.csv").open() as file:
        assert [row["mean_iu"] for row in csv.DictReader(file)] == ["0.2", "0.3", "0.1", "0.3"]
    with (run / "training.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)][-1] == 12
    assert checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1]) == 12
    assert train(load_config(run), run) == run
    assert "finished already" in capsys.readouterr().out


def raised_at(step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second forward pass of a step fails, after the first has moved batch norm's means."""
    calls = 0

    def failing(*arguments: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        value = pixel_loss(*arguments, **options)
        if calls == 2 * step:
            raise error
        return value

    monkeypatch.setattr(loop, "pixel_loss", failing)


ERRORS = [
    MemoryError("std::bad_alloc"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
    DataError(Problem(Path("a.png"), "label is missing; restore the file")),
    OSError(5, "Input/output error", "a.png"),
    ZeroDivisionError("a defect"),
]


@pytest.mark.parametrize(
    ("step", "error"), [*((4, error) for error in ERRORS), (8, ERRORS[0]), (2, ERRORS[1])], ids=str
)
def test_state_is_saved_before_an_error_ends_the_run(
    step: int,
    error: Exception,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        raised_at(step, error, patch)
        with pytest.raises(StateSaved, match=f"after step {step - 1} is saved; continue with") as e:
            train(replace(tiny_options, output=run))
    assert e.value.__cause__ is error
    assert checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1]) == step - 1
    train(load_config(run), run)
    assert_same_run(run, finished_run)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_state_is_saved_before_an_error_ends_an_evaluation(
    number: int,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A label of the val split that is missing, met after 3, 6 and 8 steps."""
    run = tmp_path / "run"
    count = Evaluator.count
    calls = 0

    def failing(self: Evaluator, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise DataError(Problem(Path("val.png"), "label is missing"))
        return count(self, *arguments)

    step = (3, 6, 8)[number - 1]
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "count", failing)
        with pytest.raises(StateSaved, match=f"after step {step} is saved"):
            train(replace(tiny_options, output=run))
    assert checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1]) == step
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_update_left_in_its_middle_is_not_saved(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = torch.optim.SGD.step, 0

    def failing(self: torch.optim.SGD, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise MemoryError
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", failing)
    with pytest.raises(MemoryError):
        train(replace(tiny_options, output=tmp_path / "run"))
    saved = checkpoint.checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoint.step_of(saved[-1]) == 4


@pytest.mark.parametrize("place", ["update", "save_checkpoint", "save_weights"])
def test_loader_process_that_ends_at_a_bad_moment(
    place: str,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch's handler would raise in the middle of an update, or of writing a file."""

    def lost(signum: int, frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    owner: Any = TrainingState if place == "update" else loop
    owner = checkpoint if place == "save_checkpoint" else owner
    action, calls = getattr(owner, place), 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGCHLD)
        return action(*arguments, **options)

    run = tmp_path / "run"
    before = signal.signal(signal.SIGCHLD, lost)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, place, interrupted)
            patch.setattr(History, "is_best", lambda self, scores: True)
            with pytest.raises(StateSaved, match="is saved; continue with"):
                train(replace(tiny_options, output=run))
    finally:
        signal.signal(signal.SIGCHLD, before)
    train(load_config(run), run)
    weights, wanted = (load_file(r / "last.safetensors") for r in (run, finished_run))
    assert all(torch.equal(weights[key], wanted[key]) for key in wanted)
    assert (run / "training.csv").read_text() == (finished_run / "training.csv").read_text()


def test_error_before_the_first_step_is_raised_as_it_is(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised_at(1, ERRORS[4], monkeypatch)
    with pytest.raises(DataError, match=r"a\.png: label is missing"):
        train(replace(tiny_options, output=tmp_path / "run"))


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
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 7, kill)
        with pytest.raises(Killed):
            train(replace(tiny_options, output=run))
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
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        during_step(patch, 6, kill)
        with pytest.raises(Killed):
            train(replace(tiny_options, output=run))
    for path in checkpoint.checkpoints(run / "checkpoints"):
        (path / "state.pt").unlink()
    with pytest.raises(UsageError, match="checkpoints: holds no checkpoint that can be used"):
        train(load_config(run), run)
    shutil.rmtree(run / "checkpoints")
    train(load_config(run), run)


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
