"""Signals: what they end, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcn_train.signals import (
    StopRequested,
    StopSignals,
    ending_at_once,
    lost_workers_held_back,
)

# Starts the program as `fcn` does, and says when the module named first is about to be imported.
START = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            print("importing", flush=True)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Watch())
from fcn_train.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "delay", "signum"),
    [
        ("tyro", 0.0, signal.SIGINT),
        ("torch", 0.0, signal.SIGTERM),
        ("torch", 0.15, signal.SIGINT),
        ("torch.nn", 0.05, signal.SIGINT),
        ("torch._dynamo", 0.1, signal.SIGINT),
        ("fcn_train.train", 0.05, signal.SIGTERM),
    ],
)
def test_signal_while_modules_are_imported(
    module: str, delay: float, signum: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START, module, "train", "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    time.sleep(delay)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert err == "fcn: interrupted\n"
    assert process.returncode == 128 + signum
    assert list(tmp_path.iterdir()) == []


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
