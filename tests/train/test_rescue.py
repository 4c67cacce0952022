"""An error in the middle of a run ends it with its state saved."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fcn_train import checkpoint, named_losses, rescue
from fcn_train import training as loop
from fcn_train.config import load_config
from fcn_train.data import DataError
from fcn_train.data.problems import Problem
from fcn_train.errors import StateSaved, WriteError
from fcn_train.evaluator import Evaluator
from fcn_train.failures import is_out_of_memory
from fcn_train.history import History
from fcn_train.loss import pixel_loss
from fcn_train.options import TrainOptions
from fcn_train.state import TrainingState
from fcn_train.stop import Stop
from fcn_train.train import train
from fcn_train.training import Training

from .running import assert_same_run

pytestmark = pytest.mark.usefixtures("no_pictures")


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

    monkeypatch.setattr(named_losses, "pixel_loss", failing)


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


def test_state_is_saved_where_torch_tells_late_of_a_lost_loader_process(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipe ends before the system says that it did, maybe when that error is looked at."""
    run, error = (
        tmp_path / "run",
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    )
    told = iter([RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")])

    def looked_at(error: BaseException) -> bool:
        for late in told:
            raise late
        return is_out_of_memory(error)

    raised_at(4, error, monkeypatch)
    monkeypatch.setattr(rescue, "is_out_of_memory", looked_at)
    with pytest.raises(StateSaved, match="after step 3 is saved; continue with") as e:
        train(replace(tiny_options, output=run))
    assert e.value.__cause__ is error
    assert not list(told)
    assert checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1]) == 3


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


@pytest.mark.parametrize("error", [None, MemoryError("std::bad_alloc")], ids=str)
def test_checkpoint_that_a_full_disk_leaves_is_named(
    error: Exception | None,
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk refuses the checkpoint after step 6, or that of what another error has ended."""
    save, full = checkpoint.save_tensors, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    calls = 0

    def refused(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise full
        save(*arguments)

    run = tmp_path / "run"
    monkeypatch.setattr(checkpoint, "save_tensors", refused)
    if error is not None:
        raised_at(5, error, monkeypatch)
    with pytest.raises(StateSaved) as raised:
        train(replace(tiny_options, output=run, checkpoint_every=1000))
    cause = raised.value.__cause__
    assert cause is error if error is not None else isinstance(cause, WriteError)
    saved = checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1])
    assert saved == 3
    assert str(raised.value) == (
        f"The state after step 3 is saved; continue with: fcn train --resume {run}"
    )


BAD_MOMENTS = [
    (TrainingState, "update"),
    (checkpoint, "save_checkpoint"),
    (loop, "save_weights"),
    (Evaluator, "count"),
    # Between two steps:
    (Training, "is_over"),
    (Training, "evaluation_is_due"),
    (Stop, "agreed"),
]


@pytest.mark.parametrize(("owner", "place"), BAD_MOMENTS, ids=[name for _, name in BAD_MOMENTS])
def test_loader_process_that_ends_at_a_bad_moment(
    owner: Any,
    place: str,
    tiny_options: TrainOptions,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch's handler would raise in the middle of an update, of writing a file, or anywhere."""

    def lost(signum: int, frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    action, calls = getattr(owner, place), 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
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


def test_state_is_saved_before_an_error_ends_the_report(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish", failing)
        with pytest.raises(StateSaved, match="after step 8 is saved"):
            train(replace(tiny_options, output=run))
    train(load_config(run), run)
    assert_same_run(run, finished_run)


def test_error_before_the_first_step_is_raised_as_it_is(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised_at(1, ERRORS[4], monkeypatch)
    with pytest.raises(DataError, match=r"a\.png: label is missing"):
        train(replace(tiny_options, output=tmp_path / "run"))
