"""One process at a time in a run folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train.errors import UsageError
from fcn_train.lock import locked

Command = Callable[..., tuple[int, str, str]]
HOLD = """
import sys, time
from pathlib import Path
from fcn_train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    return process


def test_second_process_is_told_which_is_the_first(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    try:
        message = rf"is being trained by another process \({holder.pid}\); wait until it ends"
        with pytest.raises(UsageError, match=message), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):  # a killed process holds nothing
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_lock_is_free_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path):
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_never_two_at_once(tmp_path: Path) -> None:
    inside, most, refused = 0, 0, 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most, refused
        for _ in range(200):
            try:
                with locked(tmp_path):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except UsageError:
                with guard:
                    refused += 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert refused < 800


def test_two_resumes_of_one_run(
    finished_run: Path, command: Command, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    try:
        for name in ("config.json", "classes.json", "splits.json"):
            (tmp_path / name).write_bytes((finished_run / name).read_bytes())
        code, _, err = command("train", "--resume", tmp_path)
    finally:
        holder.kill()
        holder.wait()
    assert code == 2
    assert err.startswith(f"fcn: {tmp_path}: is being trained by another process ({holder.pid})")
    assert err.count("\n") == 1
