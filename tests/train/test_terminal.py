"""Closed streams and narrow terminals."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcn_train.cli import main
from fcn_train.terminal import prepare

from .running import HANGS


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m fcn_train {command}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("columns", ["1", "7"])
def test_help_ends_on_narrow_terminals(columns: str) -> None:
    done = run("data check --help", COLUMNS=columns)
    assert done.returncode == 0
    assert done.stdout.startswith("usage")


@pytest.mark.parametrize("columns", ["20", "200", "0", "-3", "wide"])
def test_other_widths_stay(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    prepare()
    assert os.environ["COLUMNS"] == columns


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """What is printed goes nowhere, not into the files that would have the stream's number."""
    root = tmp_path / "sample"
    command = f"data sample --layout folder --root {root} --train 2 --val 1 --size 32"
    for words in ("--help", command):
        done = run(f"{words} {closed}")
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
    done = run(f"train --optim.lr -1 {closed}")
    assert done.returncode == 2
    if "2>&-" not in closed:
        assert "--optim.lr must be > 0 and finite, got -1.0" in done.stderr
    for path in root.rglob("*.txt"):
        assert "fcn" not in path.read_text()


class Full(io.StringIO):
    """A stream to a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("command", [["recipes"], ["recipes", "--json"], ["study"]])
def test_standard_output_that_cannot_be_written_is_named(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "fcn: standard output cannot be written (No space left on device); send it elsewhere\n"
    )


@pytest.mark.parametrize(
    ("command", "code"), [(["recipes", "nope"], 2), (["train", "--optim.lr", "-1"], 2)]
)
def test_exit_code_where_standard_error_cannot_be_written(
    command: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    assert main(command) == code


@pytest.mark.parametrize("command", [["recipes"], ["train"], ["doctor"], ["--help"]])
def test_a_current_folder_that_was_removed_is_told(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's libraries do not load there, and say that they are not found."""

    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", gone)
    assert main(command) == 2
    assert capsys.readouterr().err == "fcn: the current folder was removed; go to another one\n"
