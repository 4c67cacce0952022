"""gpu.sh keeps its limits and hands over what it found, whatever its stages do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from .gpu_call import FIGURES, MEASURING, SCRIPT, Call

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def test_what_comes_back(call: Call) -> None:
    code = call.run("install", "tests", "heads", "operators", "profile", "compile", "train")
    assert code == 0, call.said
    assert {path.name for path in call.out.iterdir()} == {
        "summary.txt",
        "logs.tar.gz",
        "site.tar",
        "heads.json",
        "operators.json",
        "kernels.json",
        "compiled.json",
    }
    results = call.results()
    assert re.search(r"passed +\d+ +150  3 passed in 0.10s", results["tests"])
    assert "1 rows, 5 of 6 promises kept" in results["heads"]
    assert "voc-s8/float32: 0.25 ms, 50 % of a copy, 10x peer" in call.said
    assert "3 passed" in call.log("tests.log")
    assert not list((call.out.parent / "tmp").iterdir())


def test_a_stage_over_its_limit_is_killed_alone(call: Call) -> None:
    # One that is interrupted, and one that does not listen; what it began must end, too.
    code = call.run(
        "tests",
        "heads=1",
        "train=1",
        HEADS=f"{MEASURING}; sleep 60",
        TRAIN="trap '' INT; sleep 61 & echo $! >$TMPDIR/begun; echo begun; wait; sleep 61",
    )
    assert code == 1
    results = call.results()
    assert " passed " in results["tests"]
    assert " timed out " in results["heads"]
    assert " timed out " in results["train"]
    # The rows that were measured in time are there.
    assert json.loads((call.out / "heads.json").read_text()) == FIGURES
    assert "begun" in call.log("train.log")
    assert not call.is_running("begun")


def test_what_a_stage_leaves_running_ends(call: Call) -> None:
    assert call.run("train", TRAIN="sleep 61 & echo $! >$TMPDIR/left; echo trained") == 0
    assert not call.is_running("left")


def test_a_stage_that_fails_stops_no_other(call: Call) -> None:
    failing = "echo 'FAILED tests/a.py::b - AssertionError'; echo '== 1 failed in 0.2s =='; exit 1"
    assert call.run("tests", "heads", TESTS=failing) == 1
    results = call.results()
    assert re.search(r"failed +\d+ +150  1 failed in 0.2s", results["tests"])
    assert "tests/a.py::b - AssertionError" in (call.out / "summary.txt").read_text()
    assert " passed " in results["heads"]


def test_success_without_a_result_is_a_failure(call: Call) -> None:
    nothing = "echo '== 9 deselected in 0.2s =='"
    assert call.run("tests", "heads", TESTS=nothing, HEADS="true") == 1
    results = call.results()
    assert " failed " in results["tests"]
    assert "nothing ran" in results["tests"]
    assert " failed " in results["heads"]


def test_no_time_left(call: Call) -> None:
    # 3 s are less than a third of the limit of `heads`, and enough for the others.
    code = call.run("install=6", "tests=6", "heads", "train=6", FCN_EXT_GPU_SH_SECONDS="8")
    assert code == 1
    results = call.results()
    assert " passed " in results["tests"]
    assert re.search(r"skipped +0 +140  \d s left of 8, it may take 140", results["heads"])
    assert " passed " in results["train"]
    assert not (call.out / "heads.json").exists()


def test_a_stage_gets_what_is_left(call: Call) -> None:
    assert call.run("install=9", "train=9", TRAIN="sleep 61", FCN_EXT_GPU_SH_SECONDS="4") == 1
    assert re.search(r"timed out +\d +[34]  ", call.results()["train"])


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_call_that_is_killed_leaves_what_it_found(call: Call, end: signal.Signals) -> None:
    process = call.begin("tests", "heads", HEADS=f"{MEASURING}; echo $$ >$TMPDIR/pid; sleep 62")
    summary = call.out / "summary.txt"
    deadline = time.monotonic() + 10
    while not summary.exists() or "heads      running since" not in summary.read_text():
        assert time.monotonic() < deadline, "the stage never began"
        time.sleep(0.05)
    pid = call.out.parent / "tmp" / "pid"
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline, "the stage never began"
        time.sleep(0.05)
    process.send_signal(end)
    process.communicate()
    assert re.search(r"^tests +passed .* 3 passed", summary.read_text(), re.MULTILINE)
    assert "3 passed" in call.log("tests.log")
    assert (call.out / "site.tar").exists()
    assert len(list(call.out.iterdir())) <= 8
    if end == signal.SIGTERM:
        assert process.returncode == 143
        assert "stopped by a signal" in summary.read_text()
        assert json.loads((call.out / "heads.json").read_text()) == FIGURES
    else:
        os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)


def test_what_is_missing_is_said_first(call: Call) -> None:
    assert call.run("tests", "train", LACKS="tyro") == 1
    assert "missing: tyro (train)" in call.said.splitlines()[2]
    results = call.results()
    assert " passed " in results["tests"]
    assert re.search(r"skipped +0 +120  missing: tyro", results["train"])


def test_what_is_missing_without_wheels(tmp_path: Path) -> None:
    """A module in a carried wheel is not missing; what the interpreter has is not installed."""
    for name in ("new_module-1.0-py3-none-any.whl", "pytest-99.0-py3-none-any.whl"):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(f"{name.split('-')[0]}/__init__.py", "")
    probe = [sys.executable, str(SCRIPT.with_suffix("") / "probe.py")]
    wanted = ["new_module", "pytest", "no_such_module", "bash", "no-such-program"]
    told = subprocess.run(
        [*probe, "--wheels", str(tmp_path), *wanted], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line for line in told if line.startswith("lacks=")] == [
        "lacks=no_such_module",
        "lacks=no-such-program",
    ]
    assert [line for line in told if line.startswith("wheel=")] == [
        f"wheel={tmp_path / 'new_module-1.0-py3-none-any.whl'}"
    ]


def test_carried_wheels_are_installed(call: Call, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "new_module-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("new_module.py", "")
    assert call.run("install", FCN_EXT_GPU_SH_WHEELS=str(wheel.parent)) == 0
    installed = [line for line in call.log("install.log").splitlines() if line.startswith("pip: ")]
    assert installed[0].endswith(f" {wheel}")
    assert installed[1].endswith("/packed/x.whl")
    assert all("--no-index" in line for line in installed)
