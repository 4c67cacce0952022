"""gpu.sh's summary says what the programs said, also where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.headline import headline

PROGRESS = "== the command\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def told(folder: Path, stage: str, log: str) -> list[str]:
    (folder / "logs" / f"{stage}.log").write_text(PROGRESS + log)
    return headline(stage, folder)


def test_tests_that_ended(folder: Path) -> None:
    log = """
tests/ops/test_argmax.py::test_matches[a] FAILED [ 50%]
FAILED tests/ops/test_argmax.py::test_matches[a] - AssertionError: 3 != 4
================= 1 failed, 11 passed, 90 deselected in 61.20s (0:01:01) =================
"""
    assert told(folder, "tests", log) == [
        "1 failed, 11 passed, 90 deselected in 61.20s (0:01:01)",
        "tests/ops/test_argmax.py::test_matches[a] - AssertionError: 3 != 4",
    ]


def test_tests_that_were_stopped(folder: Path) -> None:
    log = """
tests/ops/test_argmax.py::test_matches[a] PASSED [ 25%]
tests/ops/test_argmax.py::test_matches[b] PASSED [ 50%]
[gw1] [ 75%] FAILED tests/ops/test_argmax.py::test_matches[c]
"""
    assert told(folder, "tests", log) == ["stopped after 1 failed, 2 passed"]


@pytest.mark.parametrize("log", ["", "====== 1400 deselected in 3.20s ======\n", "no tests ran\n"])
def test_no_test_is_nothing(folder: Path, log: str) -> None:
    assert told(folder, "tests", log)[0].startswith("nothing ran")


def test_a_sanitizer_that_found_something(folder: Path) -> None:
    log = """
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at void fcn_ext::kernel(int)+0x70
========= Invalid __global__ write of size 4 bytes
============ 86 passed, 900 deselected in 60.10s ============
========= ERROR SUMMARY: 2 errors
"""
    assert told(folder, "memcheck", log) == [
        "ERROR SUMMARY: 2 errors; 86 passed, 900 deselected in 60.10s",
        "2 x Invalid __global__ write of size 4 bytes",
    ]
    log = log.replace("ERROR SUMMARY: 2 errors", "RACECHECK SUMMARY: 0 hazards displayed")
    assert "RACECHECK SUMMARY: 0 hazards displayed" in told(folder, "racecheck", log)[0]


def test_a_sanitizer_that_was_stopped(folder: Path) -> None:
    log = "========= COMPUTE-SANITIZER\ntests/a.py::b PASSED [ 1%]\n"
    assert told(folder, "racecheck", log) == ["stopped after 1 passed"]


def entry(name: str, **figures: object) -> dict[str, object]:
    return {"name": name, **figures}


def test_figures(folder: Path) -> None:
    name = "interpolate_cross_entropy/ade20k-s4/float32"
    ours = entry("fcn_ext", median_ms=0.75, share_of_copy=0.25)
    peer = entry("F", median_ms=7.5, times_fcn_ext=10.0)
    row = {"name": name, "best_peer": "F", "implementations": [ours, peer]}
    other = {"name": "x/y/z", "best_peer": None, "implementations": [entry("fcn_ext", failed="E")]}
    document = {"rows": [other, row], "skipped": ["a", "b"]}
    (folder / "heads.json").write_text(json.dumps(document))
    assert told(folder, "heads", "WRONG RESULT: x\n3 of 4 promises kept\n") == [
        "2 rows, 1 WRONG, 3 of 4 promises kept, no time for 2",
        f"{name}: 0.75 ms, 25 % of a copy, 10x F",
    ]
    # Stopped before the promises were counted; no row of those that are shown.
    document = {"rows": [other], "skipped": []}
    (folder / "heads.json").write_text(json.dumps(document))
    assert told(folder, "heads", "a  MISSED\nb  kept\n") == [
        "1 rows, 1 promises missed",
        "x/y/z: E",
    ]


@pytest.mark.parametrize("stage", ["heads", "operators", "compile", "profile"])
def test_no_figures_are_nothing(folder: Path, stage: str) -> None:
    assert told(folder, stage, "Traceback") == ["nothing was measured"]


def test_kernels(folder: Path) -> None:
    kernel = {"name": "tile_kernel<float>", "launches_per_call": 2, "median_us": 70.25}
    row = {"name": "x/y/z", "span_us": 150.0, "gb_per_s": 900.0, "kernels": [kernel]}
    document = {"rows": [row, {"name": "v/w/x", "failed": "E"}], "skipped": []}
    (folder / "kernels.json").write_text(json.dumps(document))
    assert told(folder, "profile", "") == [
        "2 rows, 1 failed",
        "x/y/z: 150.0 us, 900 GB/s",
        "  2 x 70.2 us tile_kernel<float>",
    ]


COUNTERS = """==PROF== Connected to process 7
"ID","Process ID","Kernel Name","dram__bytes_read.sum","gpu__time_duration.sum"
"","","","byte","ns"
"0","7","void fcn_ext::tile_kernel<float>(fcn_ext::Args)","1,024","75,000"
"""


def test_counters(folder: Path) -> None:
    (folder / "logs" / "ncu.csv").write_text(COUNTERS)
    assert told(folder, "ncu", "") == [
        "1 kernels",
        "void fcn_ext::tile_kernel<float>: dram__bytes_read.sum 1,024, "
        "gpu__time_duration.sum 75,000",
    ]


@pytest.mark.parametrize("where", ["log", "table"])
def test_counters_that_may_not_be_read(folder: Path, where: str) -> None:
    refusal = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access\n"
    if where == "table":
        (folder / "logs" / "ncu.csv").write_text(refusal)
    assert told(folder, "ncu", refusal if where == "log" else "") == [
        "nothing: no permission to read the GPU's counters (ERR_NVGPUCTRPERM)"
    ]
    assert told(folder, "ncu", "==ERROR== LibraryNotLoaded\n")[0].startswith("nothing")


def test_training(folder: Path) -> None:
    scores = {"split": "val", "steps": 10, "mean_iu": 0.51234, "classes": []}
    (folder / "logs" / "train.json").write_text(json.dumps(scores))
    assert told(folder, "train", "step 10\n") == ["steps 10, mean_iu 0.5123"]
    (folder / "logs" / "train.json").unlink()
    assert told(folder, "train", "step 1\nstep 5\n") == ["step 5"]
