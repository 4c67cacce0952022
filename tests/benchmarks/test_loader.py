"""The rates of the loader: every way of loading is measured, by wall and by CPU time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import loader
from fcn_train.data import open_dataset, write_sample_dataset


def test_every_way_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_sample_dataset(tmp_path / "sample", train=3, val=1, size=32)
    loader.main([str(root), "--workers", "0", "--repeats", "1", "--batches", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0 |")]
    assert [line.split(" | ")[1:3] for line in lines] == [
        ["no", "float32"],
        ["no", "uint8"],
        ["yes", "float32"],
        ["yes", "uint8"],
    ]
    assert all(float(number) > 0 for line in lines for number in line.strip(" |").split(" | ")[3:])


@pytest.mark.parametrize("workers", [0, 1])
def test_rate_is_images_by_seconds(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two repeats of two batches of 8, of 4 and 2 seconds by a clock of our own and 5 of the CPU
    together, which is looked at when the loader's processes are over."""
    root = write_sample_dataset(tmp_path / "sample", train=3, val=1, size=32)
    moments = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    dataset = open_dataset("sample", root, "train")
    seen = []
    seconds = iter([1.5, 6.5])

    def cpu_seconds() -> float:
        seen.append(multiprocessing.active_children())
        return next(seconds)

    monkeypatch.setattr(loader, "_cpu_seconds", cpu_seconds)
    best, by_cpu = loader.rate(dataset, workers=workers, as_bytes=True, batches=2, repeats=2)
    assert best == 8
    assert by_cpu == 32 / 5
    assert seen == [[], []]  # what is over is counted


def test_cpu_seconds_are_of_this_process_and_of_those_that_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = SimpleNamespace(times=lambda: (1.0, 2.0, 4.0, 8.0, 99.0))
    monkeypatch.setattr(loader, "os", times)
    assert loader._cpu_seconds() == 15
