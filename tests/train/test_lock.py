"""One process at a time in a run folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcn_train.errors import UsageError
from fcn_train.lock import locked

Command = Callable[..., tuple[int, str, str]]
HOLD = """
import sys
from pathlib import Path
from fcn_train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()  # until it is killed, or nobody is there to do so
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


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
