"""Device, threads and processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fcn_train import machine
from fcn_train.errors import UsageError
from fcn_train.runtime import open_runtime, resolve_device, set_threads

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("threads", [-1, 1025, 10**9, 2**70])
def test_absurd_numbers_of_threads_are_refused(threads: int) -> None:
    with pytest.raises(UsageError, match=rf"--threads must be in \[0, 1024\], got {threads}"):
        set_threads(threads, pytest.fail)


def test_threads_that_only_wait_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    said: list[str] = []
    set_threads(3, said.append)
    assert torch.get_num_threads() == 3
    assert said == ["--threads 3 is slower than 2, the CPUs this process may use"]
    set_threads(2, pytest.fail)


def test_default_keeps_within_a_containers_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    monkeypatch.setattr(machine, "cpus", lambda: 8)
    set_threads(0, pytest.fail)
    assert torch.get_num_threads() == 4
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    set_threads(0, pytest.fail)
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # the user knows better
    torch.set_num_threads(4)
    set_threads(0, pytest.fail)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("name", ["abacus", "cpu:x", "meta", "cuda:99", ""])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        resolve_device(name)


@pytest.mark.parametrize("size", ["2", "16"])
def test_several_processes_are_refused(
    size: str, finished_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    run = ("--run", finished_run, "--output", tmp_path / "out")
    for arguments in (
        ("train", "--output", tmp_path / "out"),
        ("train", "--resume", finished_run, "--optim.steps", "9"),
        ("evaluate", *run),
        ("predict", "a.png", *run),
    ):
        code, _, err = command(*arguments)
        assert code == 2
        assert err == (
            f"fcn: started as {size} processes (WORLD_SIZE), but fcn runs in one; "
            "start it without torchrun\n"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["", "1", "many"])
def test_one_process_of_a_launcher_is_welcome(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert open_runtime("cpu", 1, "none", pytest.fail).device == torch.device("cpu")


def test_workers_follow_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = open_runtime("cpu", 1, "none", pytest.fail)
    assert [runtime.workers(wanted) for wanted in (-1, 0, 3)] == [0, 0, 3]
