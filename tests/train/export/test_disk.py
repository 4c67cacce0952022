"""A disk that refuses: the file that was there stays, and the reason is told in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcn_train.export import command as exporting
from fcn_train.export.check import Agreement
from fcn_train.run import TrainedRun

Command = Callable[..., tuple[int, str, str]]
Disk = Any  # the fixture of conftest.py


def test_a_file_is_whole_or_the_one_before(
    two_sets: TrainedRun,
    command: Command,
    tmp_path: Path,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(run: object, kind: object, metadata: object, path: Path) -> Agreement:
        path.write_bytes(b"new")
        return Agreement(pixels=1)

    monkeypatch.setattr(exporting, "write_and_check", write)
    file = tmp_path / "net.onnx"
    arguments = ("export", two_sets.path, "--file", file)
    disk.operations.clear()
    assert command(*arguments)[0] == 0
    operations = list(disk.operations)
    assert len(operations) >= 6
    for refused in range(1, len(operations) + 1):
        disk.work()
        file.write_bytes(b"old")
        disk.fail_at(refused)
        code, _, err = command(*arguments)
        disk.work()
        assert code in (1, 2), operations[refused - 1]
        assert err.count("\n") == 1, err
        assert os.strerror(errno.ENOSPC) in err
        assert file.read_bytes() in (b"old", b"new")
        assert {path.name for path in tmp_path.iterdir()} <= {"net.onnx", "net.onnx.md"}
