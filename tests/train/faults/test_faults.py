"""At whichever write the disk fails or the process is killed, the run says so in one line, leaves
nothing half written, and continues to the same bits.

A few places in the suite. ``make faults`` (FCN_LONG_TESTS=1) tries every one: each operation of a
run, on a disk that is full from there on, that fails once, and with a process that is killed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..running import HANGS, assert_same_run

HERE = Path(__file__).resolve().parent
IS_LONG = os.environ.get("FCN_LONG_TESTS", "") not in ("", "0")
KILL = 0
# Name, errno or a kill, whether the disk stays as it is.
KINDS = [("killed", KILL, False), ("full", errno.ENOSPC, True), ("broken", errno.EIO, False)]
Trial = tuple[str, int, int, bool]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, for a disk that fails")
    library = tmp_path_factory.mktemp("disk") / "disk.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [compiler, *flags, HERE / "disk.c", "-o", library, "-ldl"], check=True, timeout=HANGS
    )
    return library


class Runs:
    """Trials in a process of their own, one after the other."""

    def __init__(self, disk: Path, folder: Path, data: Path) -> None:
        self.folder, self._disk, self._data = folder, disk, data
        self._tried = 0

    def results(self, trials: list[Trial]) -> Iterator[dict[str, Any]]:
        environment = {**os.environ, "LD_PRELOAD": str(self._disk), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            [sys.executable, HERE / "driver.py", self.folder, self._data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(trials))
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        assert process.returncode == 0


def test_every_write_may_fail(disk: Path, sample_root: Path, tmp_path: Path) -> None:
    # A disk that never fails comes first, and counts.
    whole: Trial = ("whole", 0, 0, False)
    if IS_LONG:
        (first,) = Runs(disk, tmp_path, sample_root).results([whole])
        count = len(first["first"][2])
        trials = [
            (f"{kind}-{k}", k, error, stays)
            for k in range(1, count + 1)
            for kind, error, stays in KINDS
        ]
        shutil.rmtree(tmp_path / "whole")
    else:
        # In the middle of a checkpoint's weights or state, and of the last files.
        trials = [("killed-120", 120, KILL, False), ("full-90", 90, errno.ENOSPC, True)]
    results = Runs(disk, tmp_path, sample_root).results([whole, *trials])
    code, said, operations = next(results)["first"]
    assert (code, lines(said)) == (0, [])
    assert len(operations) > max(k for _, k, _, _ in trials) - 1
    faults = []
    for (name, k, error, _), result in zip(trials, results, strict=True):
        wrong = judged(result, error, tmp_path / name, tmp_path / "whole")
        faults += [f"{name}, {operations[k - 1]}: {what}" for what in wrong]
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    assert not faults, "\n".join(faults)


def lines(said: str) -> list[str]:
    """Of standard error, without what is said of the data."""
    return [line for line in said.splitlines() if not line.startswith("warning: ")]


def judged(result: dict[str, Any], error: int, run: Path, whole: Path) -> list[str]:
    """What is wrong with a trial."""
    wrong = []
    code, said, _ = result["first"]
    if error == KILL:
        if code != -9:
            wrong.append(f"ends with {code}")
    else:
        # Some failures are no matter: of removing what nobody needs any more.
        if code not in (0, 1, 2):
            wrong.append(f"ends with {code}: {said}")
        text = lines(said)
        if code != 0 and (len(text) != 1 or not text[0].startswith("fcn: ")):
            wrong.append(f"says {said!r}")
        if code != 0 and str(run) not in said:
            wrong.append(f"names no file: {said!r}")
        # What holds a lock may not be removed from a disk that refuses it; the next run takes it.
        left = [name for name in result["left"] if name != ".lock"]
        if left:
            wrong.append(f"leaves {left}")
    code, said, _ = result["again"]
    if code != 0:
        wrong.append(f"cannot be continued: {code}, {said}")
        return wrong
    hidden = [path.name for path in run.rglob(".*")]
    if hidden:
        wrong.append(f"keeps {hidden}")
    try:
        assert_same_run(run, whole)
    except (AssertionError, OSError) as difference:
        wrong.append(f"continues to other bits: {difference}")
    return wrong
