"""What is said when something fails: one line, the remedy, an exit code."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError

from fcn_train import data
from fcn_train.data import DataError
from fcn_train.data.problems import Problem
from fcn_train.errors import Interrupted, StateSaved, UsageError
from fcn_train.failures import explain
from fcn_train.study.registry import STUDIES

Command = Callable[..., tuple[int, str, str]]


def raised(action: Callable[[], object]) -> BaseException:
    with pytest.raises((Exception, MemoryError)) as caught:
        action()
    return caught.value


def without_warnings(err: str) -> str:
    """Standard error without what is said of the data."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("warning: "))


@pytest.mark.parametrize(
    "action",
    [
        lambda: torch.empty(2**50),
        lambda: torch.empty(2**43, dtype=torch.float64),
        lambda: np.ones(2**46),
        lambda: bytearray(2**50),
    ],
)
def test_memory_that_there_is_not(action: Callable[[], object]) -> None:
    """As torch, NumPy and Python themselves say it."""
    failure = explain(raised(action))
    assert failure is not None
    assert failure.code == 1
    assert failure.text.startswith("out of memory")
    assert failure.text.endswith(
        "try a smaller --optim.batch with more --optim.accumulate, a smaller --data.crop, or a "
        "narrower network (--model.width, --model.fc-channels)"
    )


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (MemoryError(), "out of memory; try a smaller --optim.batch", 1),
        (RuntimeError("std::bad_alloc"), "out of memory; try", 1),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[9]"),
            "out of memory; try",
            1,
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory; try", 1),
        (
            MemoryError("Failed to allocate memory for requested buffer of size 10816000000"),
            "out of memory (10.1 GiB more were wanted); try",
            1,
        ),
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "out of memory (2.00 GiB more were wanted); try",
            1,
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "a loader process was killed, as the system does when memory runs out; try fewer",
            1,
        ),
        (ConnectionResetError(104, "Connection reset by peer"), "a loader process was killed", 1),
        (EOFError(), "a loader process was killed", 1),
        (
            RuntimeError("DataLoader worker (pid(s) 3, 4) exited unexpectedly"),
            "a loader process was killed",
            1,
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible "
                "that dataloader's workers are out of shared memory."
            ),
            "the loader processes ran out of shared memory; try --data.workers 0",
            1,
        ),
        (OSError(errno.EACCES, "Permission denied", "a.png"), "a.png: Permission denied; give", 2),
        (OSError(errno.EIO, "Input/output error"), "the system refused: Input/output error", 1),
        (UsageError("--x must\nbe y"), "--x must be y", 2),
        (DataError(Problem(Path("a.png"), "label is missing")), "a.png: label is missing", 2),
        (Interrupted(signal.SIGTERM, "stopped"), "stopped", 143),
    ],
)
def test_one_line_and_an_exit_code(error: Exception, said: str, code: int) -> None:
    failure = explain(error)
    assert failure is not None
    assert failure.text.startswith(said)
    assert failure.code == code
    assert "\n" not in failure.text
    saved = StateSaved("The state after step 7 is saved", "continue with: fcn train --resume r")
    saved.__cause__ = error
    after = explain(saved)
    assert after is not None
    assert after.code == code
    assert after.text == f"{failure.text}. {saved}"


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RuntimeError("x"), KeyError("x")])
def test_defects_keep_their_traceback(error: Exception) -> None:
    assert explain(error) is None
    saved = StateSaved("saved", "go on")
    saved.__cause__ = error
    assert explain(saved) is None


def test_remedy_is_that_of_the_command() -> None:
    remedies = {
        "evaluate": "try --batch 1",
        "predict": "try --tile 512, or smaller images",
        "classify": "try smaller images, or a smaller --resize or --crop",
        "compare": "try fewer runs, or --images 0",
        "serve": "try smaller images, or start fcn serve with a smaller --max-megapixels",
        "data": "try smaller images",
    }
    for command, remedy in remedies.items():
        failure = explain(MemoryError(), command)
        assert failure is not None
        assert remedy in failure.text


COMMANDS = (
    *("train", "evaluate", "predict", "export", "serve", "compare", "classify", "describe"),
    *("recipes", "doctor", "data sample", "data check", "data stats", "data hha", "data get"),
    *(f"study {name}" for name in STUDIES),
)


@pytest.mark.parametrize("words", COMMANDS)
def test_remedies_name_options_that_the_command_has(words: str, command: Command) -> None:
    code, shown, _ = command(*words.split(), "--help")
    assert code == 0
    options = set(re.findall(r"--[a-z][\w.-]*", shown))
    errors = [
        MemoryError(),
        ConnectionResetError(104, "Connection reset by peer"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker is killed: Bus error. It is out of shared memory."),
    ]
    for error in errors:
        failure = explain(error, words)
        assert failure is not None
        # docker's own, not ours
        named = set(re.findall(r"--[a-z][\w.-]*", failure.text)) - {"--shm-size"}
        assert named <= options, failure.text


def test_remedy_is_that_of_the_study(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fcn_train.study.whole_image.open_runtime", no_memory)
    code, _, err = command("study", "whole-image", "--output", tmp_path / "study")
    remedy = "try a smaller --batch, --size or --width"
    assert (code, err) == (1, f"fcn: out of memory; {remedy}\n")


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset"), EOFError()])
def test_no_loader_process_is_blamed_where_there_is_none(error: Exception) -> None:
    for words in ("serve", "predict", "data get", "study whole-image"):
        failure = explain(error, words)
        assert failure is None or "loader" not in failure.text


def test_killed_loader_process_costs_no_step(
    command: Command, sample_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does when memory runs out, in a real worker: the state is saved first."""
    flags = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    run = ("--data.root", sample_root, "--output", tmp_path / "run", "--optim.batch", "1")
    taken = data.SampleDataset.__getitem__
    me = os.getpid()

    def dying(self: Any, index: int) -> Any:
        if os.getpid() != me:
            seen.append(index)
            if len(seen) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        return taken(self, index)

    seen: list[int] = []
    monkeypatch.setattr(data.SampleDataset, "__getitem__", dying)
    code, _, err = command(
        *("train", *run, *flags, "--optim.steps", "9", "--data.workers", "1", "--threads", "1")
    )
    assert code == 1, err
    err = without_warnings(err)
    assert err.startswith("fcn: a loader process was killed")
    assert err.count("\n") == 1
    assert "is saved; continue with: fcn train --resume" in err
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


WRITE_ERRORS = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.EROFS, os.strerror(errno.EROFS), "elsewhere"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.fixture
def cheap_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written, but drawing them takes most of the time of a tiny run."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **how: Path(path).write_bytes(b"x"))


@pytest.mark.parametrize("name", ["evaluate", "predict"])  # of training: faults/test_faults.py
@pytest.mark.usefixtures("cheap_pictures")
def test_no_refused_write_ends_in_a_traceback(
    name: str,
    finished_run: Path,
    sample_root: Path,
    command: Command,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Each kind of write to each file is refused once, in turn with each of the reasons."""
    disk = request.getfixturevalue("disk")
    image = next((sample_root / "JPEGImages").iterdir())
    arguments = {
        "evaluate": ("--run", finished_run),
        "predict": (image, "--run", finished_run),
    }[name]
    disk.fail_at(0)
    output = ("--threads", "1", "--output")
    assert command(name, *arguments, *output, tmp_path / "whole")[0] == 0
    first: dict[tuple[str, str], int] = {}
    for number, operation in enumerate(disk.operations, 1):
        first.setdefault(operation, number)
    assert len(first) >= {"evaluate": 20, "predict": 6}[name]
    for refused, ((operation, file), number) in enumerate(first.items()):
        folder = tmp_path / str(number)
        disk.fail_at(number, WRITE_ERRORS[refused % len(WRITE_ERRORS)])
        code, _, err = command(name, *arguments, *output, folder)
        err = without_warnings(err)
        what = f"{operation} of {file}: {err}"
        assert code in (1, 2), what
        assert err.startswith("fcn: "), what
        assert err.count("\n") == 1, what
        assert not list(folder.rglob(".*")), what
