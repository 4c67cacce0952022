"""The kernels of a call are told apart by call and by name, and none is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import kernels
from benchmarks.cases import rows
from benchmarks.cli import main
from benchmarks.kernels import Launch, Profiler, call_once, figures, profile_row, split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def profiler() -> Profiler:
    return Profiler(CPU)


def test_calls_are_what_runs_between_marks() -> None:
    """By time, whatever the order in which they are told; what runs before a call is not its."""
    told = [
        Launch("mark", 40, 1),
        Launch("b", 44, 1),
        Launch("flush", 0, 9),
        Launch("mark", 10, 1),
        Launch("a", 20, 5),
        Launch("mark", 26, 1),
        Launch("flush", 30, 9),
        Launch("a", 42, 1),
        Launch("mark", 46, 1),
    ]
    assert [[launch.name for launch in call] for call in split(told, "mark")] == [["a"], ["a", "b"]]
    with pytest.raises(RuntimeError, match="lost a mark"):
        split(told[1:], "mark")


def test_figures_are_medians_over_calls() -> None:
    calls = [
        # tile twice and a gap of 10, then a shorter call, then one that something slowed
        [Launch("tile", 0, 100), Launch("tile", 100, 50), Launch("finish", 160, 20)],
        [Launch("tile", 1000, 90), Launch("tile", 1090, 40), Launch("finish", 1140, 10)],
        [Launch("tile", 2000, 900), Launch("tile", 2900, 60), Launch("finish", 2970, 30)],
    ]
    found = figures(calls, 36_000)
    assert found["calls"] == 3
    assert found["span_us"] == 180
    assert found["busy_us"] == 170
    assert found["gb_per_s"] == pytest.approx(0.2)
    assert found["kernels"] == [
        {"name": "tile", "launches_per_call": 2, "median_us": 75, "us_per_call": 150},
        {"name": "finish", "launches_per_call": 1, "median_us": 20, "us_per_call": 20},
    ]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("interpolate_argmax", "fcn_ext::argmax"),
        ("interpolate_cross_entropy", "fcn_ext::cross_entropy"),
        ("upsample_backward", "fcn_ext::upsample_backward"),
        ("confusion_matrix", "fcn_ext::confusion_matrix_labels"),
    ],
)
def test_a_row_has_its_operator_once_a_call(
    profiler: Profiler, operator: str, expected: str
) -> None:
    row = next(row for row in rows() if row.operator == operator).shrunk()
    found = profile_row(row, profiler, CPU)
    assert found["calls"] == profiler.calls
    assert found["minimal_bytes"] > 0
    launches = {kernel["name"]: kernel["launches_per_call"] for kernel in found["kernels"]}
    assert launches[expected] == 1
    assert profiler.mark not in launches


def test_a_call_without_kernels_is_no_result(profiler: Profiler) -> None:
    with pytest.raises(RuntimeError, match="the profiler saw kernels of 0 of 5 calls"):
        profiler.profile(lambda: None, 1)


def test_a_mark_that_is_not_seen_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody could say which kernels belong to which call."""
    monkeypatch.setattr(Profiler, "_mark", lambda self: None)
    with pytest.raises(RuntimeError, match="in place of a mark"):
        Profiler(CPU)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the command line on a few pixels."""
    prepare = kernels.prepare
    monkeypatch.setattr(kernels, "prepare", lambda row, device: prepare(row.shrunk(), device))


FILTER = ["--filter", "*/voc-s32/float32*", "--threads", "1"]


def test_command_line(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kernels.json"
    assert main(["--kernels", *FILTER, "--output", str(path)]) == 0
    document = json.loads(path.read_text())
    names = [row["name"] for row in document["rows"]]
    # Heads first, since those that come last may find no time.
    assert names[0].startswith("interpolate_cross_entropy/")
    assert sorted(names) == sorted(row.name for row in rows(("*/voc-s32/float32*",)))
    assert document["environment"]["torch"] == torch.__version__
    assert "fcn_ext::cross_entropy" in capsys.readouterr().out


def test_no_time_is_left(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kernels.json"
    assert main(["--kernels", *FILTER, "--time-limit", "0", "--output", str(path)]) == 0
    document = json.loads(path.read_text())
    assert document["rows"] == []
    assert "upsample/voc-s32/float32" in document["skipped"]
    assert "no time was left for" in capsys.readouterr().out


def test_a_row_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def prepare(row: Any, device: torch.device) -> Any:
        raise ValueError("too large\nfor this machine")

    monkeypatch.setattr(kernels, "prepare", prepare)
    path = tmp_path / "kernels.json"
    assert main(["--kernels", *FILTER, "--output", str(path)]) == 1
    assert json.loads(path.read_text())["rows"][0]["failed"] == "ValueError: too large"


def test_once(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One call of each row, and no file."""
    called = []
    monkeypatch.setattr(
        kernels, "call_once", lambda row, device: (called.append(row.name), call_once(row, device))
    )
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    assert main(["--once", *FILTER, "--output", str(tmp_path)]) == 0
    assert called == [row.name for row in rows(("*/voc-s32/float32*",))]
    assert list(tmp_path.iterdir()) == []
