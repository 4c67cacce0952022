"""Signals: what they end, and when."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train import data_commands
from fcn_train.data import sample, unpack
from fcn_train.export import torch_program
from fcn_train.signals import (
    StopRequested,
    StopSignals,
    Terminated,
    ending_at_once,
    endings_raise,
    lost_workers_held_back,
    signal_of,
)

from .running import HANGS

Command = Callable[..., tuple[int, str, str]]

# Starts the program as `fcn` does, and signals it when the module named first is about to be
# imported, or so many modules later.
START = """
import os, sys

class Watch:
    later = None

    def find_spec(self, name, path=None, target=None):
        if name == module:
            self.later = 0
        elif self.later is not None:
            self.later += 1
        if self.later == count:
            os.kill(os.getpid(), signum)

module, count, signum = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
sys.meta_path.insert(0, Watch())
from fcn_train.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "later", "signum"),
    [
        ("fcn_train.signals", 0, signal.SIGINT),  # not even this is imported
        ("tyro", 0, signal.SIGINT),
        ("torch", 0, signal.SIGTERM),
        ("torch", 150, signal.SIGINT),
        ("torch.nn", 20, signal.SIGINT),
        ("torch._dynamo", 100, signal.SIGINT),
        ("fcn_train.train", 10, signal.SIGTERM),
    ],
)
def test_signal_while_modules_are_imported(
    module: str, later: int, signum: int, tmp_path: Path
) -> None:
    moment = (module, str(later), str(int(signum)))
    done = subprocess.run(
        [sys.executable, "-c", START, *moment, "train", "--output", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=HANGS,
    )
    assert (done.returncode, done.stderr) == (128 + signum, "fcn: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_signal_while_python_ends() -> None:
    """After the last line of a command: what torch and others do at the end takes a while."""
    code = (
        "import atexit, signal, sys\n"
        "from fcn_train.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert done.stdout.startswith("usage: fcn doctor")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with ending_at_once():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def python_handles_sigint() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so would the second signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def terminal_may_close() -> Iterator[None]:
    """What `nohup` has started ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal_may_close")
def test_a_terminal_that_is_closed_asks_a_training_to_stop() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(StopRequested):
            stop.check()
    assert stop.signum == signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


@pytest.mark.usefixtures("terminal_may_close")
@pytest.mark.parametrize("guard", [StopSignals, ending_at_once, endings_raise])
def test_what_nohup_has_started_goes_on(
    guard: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with guard() as inside:
        signal.raise_signal(signal.SIGHUP)
        if isinstance(inside, StopSignals):
            inside.check()


@pytest.mark.usefixtures("python_handles_sigint")
def test_first_signal_is_noted_and_the_second_acts() -> None:
    with StopSignals() as stop:
        stop.check()
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(StopRequested):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("python_handles_sigint")
def test_a_real_signal_leaves_no_half_written_sample(signum: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn_train", "data", "sample", "--root", "new", "--train", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    while not list(tmp_path.glob(".new-*/*/*/*.jpg")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signum)
    _, err = process.communicate(timeout=HANGS)
    assert (process.returncode, err) == (128 + signum, "fcn: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("work", ["sample", "unpack", "hha", "elsewhere"])
@pytest.mark.usefixtures("python_handles_sigint", "terminal_may_close")
def test_signal_leaves_no_temporary_file(
    work: str, signum: int, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a command was writing: a folder beside its own, a file, or in the system's place."""

    def signalled(*arguments: object, **options: object) -> None:
        signal.raise_signal(signum)

    before: list[Path] = []
    arguments: tuple[str | Path, ...] = ("data", "sample", "--root", tmp_path / "new")
    if work == "sample":
        monkeypatch.setattr(sample, "draw_scene", signalled)
    elif work == "hha":
        depth = tmp_path / "depth"
        depth.mkdir()
        Image.fromarray(np.full((480, 640), 900, np.uint16)).save(depth / "a.png")
        arguments = ("data", "hha", "--depth", depth, "--output", tmp_path)
        before = [depth]
        monkeypatch.setattr(data_commands, "hha_from_depth", signalled)
    else:
        # Done in place of the sample, as their own commands take a server or a network.
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setattr(unpack, "_unpack_into", signalled)
        monkeypatch.setattr(torch_program.subprocess, "run", signalled)
        actions: dict[str, Callable[[], object]] = {
            "unpack": lambda: unpack.unpack(tmp_path / "a.tar", tmp_path, limit=1),
            "elsewhere": lambda: torch_program.run_elsewhere(tmp_path / "x", []),
        }
        monkeypatch.setattr(data_commands, "write_sample", lambda *given: actions[work]())
    code, _, err = command(*arguments)
    assert (code, err) == (128 + signum, "fcn: interrupted\n")
    assert list(tmp_path.iterdir()) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("terminal_may_close")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_an_ending_raises_inside_alone_and_where_nobody_handles_it(signum: int) -> None:
    with pytest.raises(Terminated) as raised, endings_raise():
        signal.raise_signal(signum)
    assert signal_of(raised.value) == signum
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT
    assert signal.getsignal(signum) == signal.SIG_DFL
    signal.signal(signum, signal.SIG_IGN)
    try:
        with endings_raise():
            signal.raise_signal(signum)
    finally:
        signal.signal(signum, signal.SIG_DFL)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="needs SIGCHLD")
@pytest.mark.parametrize("forget", [False, True])
def test_end_of_a_process_is_held_back(forget: bool) -> None:
    def lost(signum: int, frame: object) -> None:
        raise RuntimeError("lost")

    before = signal.signal(signal.SIGCHLD, lost)
    done: list[int] = []

    def guarded(action: Callable[[], object]) -> None:
        with lost_workers_held_back(forget=forget):
            action()
            done.append(1)

    try:
        guarded(lambda: None)
        if forget:
            guarded(lambda: os.kill(os.getpid(), signal.SIGCHLD))
        else:
            with pytest.raises(RuntimeError, match="lost"):
                guarded(lambda: os.kill(os.getpid(), signal.SIGCHLD))
        assert done == [1, 1]
        assert signal.getsignal(signal.SIGCHLD) is lost
        with pytest.raises(ZeroDivisionError):
            guarded(lambda: 1 / 0)
    finally:
        signal.signal(signal.SIGCHLD, before)
