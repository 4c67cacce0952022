"""Device, threads and processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fcn_train import machine
from fcn_train.errors import UsageError
from fcn_train.gloo_batch_norm import GlooBatchNorm
from fcn_train.launcher import Place
from fcn_train.precision import Scaler
from fcn_train.processes import Processes
from fcn_train.runtime import (
    Runtime,
    open_runtime,
    own_gpu,
    resolve_device,
    set_threads,
    usable_cpus,
)
from fcn_train.whole_batch import Current, see_whole_batches

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


@pytest.mark.parametrize("name", ["abacus", "cpu:x", "cpu:0", "cpu:7", "meta", "cuda:99", ""])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        resolve_device(name)


def test_several_processes_have_to_be_launched(
    command: Command, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    missing = "RANK, MASTER_PORT, MASTER_ADDR are not set; start them with torchrun"
    said = f"fcn: started as 2 processes (WORLD_SIZE), but {missing}\n"
    assert command("train", "--output", in_folder / "out") == (2, "", said)
    for name, value in (("RANK", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    assert command("train") == (2, "", "fcn: RANK must be less than WORLD_SIZE = 2, got 2\n")
    assert not list(in_folder.iterdir())


def test_processes_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its CPUs, and its GPUs, one each."""
    monkeypatch.setattr(machine, "cpus", lambda: 7)
    here = Processes(Place(local_rank=1, local_size=3))
    assert usable_cpus(here) == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_gpu(torch.device("cuda"), here) == torch.device("cuda:1")
    with pytest.raises(UsageError, match="--device cuda:1 is one GPU, and each"):
        own_gpu(torch.device("cuda:1"), here)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="torch sees 1 for 3 processes; start fewer"):
        own_gpu(torch.device("cuda"), here)


def test_processes_on_gpus_exchange_over_nccl(
    one_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they choose there: nothing of it runs where there is no GPU."""
    made: list[dict[str, Any]] = []
    used: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **how: made.append(how) or "nccl")
    one_of_two.use(torch.device("cpu"))
    assert (made, one_of_two.group) == ([], None)
    for _ in range(2):
        one_of_two.use(torch.device("cuda:1"))
    assert [how["backend"] for how in made] == ["nccl"]
    assert (used, one_of_two.group) == ([torch.device("cuda:1")], "nccl")
    alone = Processes(Place())
    alone.use(torch.device("cuda:0"))
    assert alone.group is None


@pytest.mark.parametrize("group", [None, "nccl"])
def test_batch_normalization_of_several_goes_by_their_group(
    group: str | None, one_of_two: Processes
) -> None:
    one_of_two.group = group
    net = nn.Sequential(nn.BatchNorm2d(3, eps=0.1, momentum=0.2), nn.Dropout(0.3)).eval()
    weight = net[0].weight
    see_whole_batches(net, one_of_two, Current(), sync=True)
    norm = net[0]
    assert type(norm) is (nn.SyncBatchNorm if group else GlooBatchNorm)
    assert (norm.eps, norm.momentum, norm.training) == (0.1, 0.2, False)
    assert norm.weight is weight
    assert getattr(norm, "process_group", None) == group
    plain = nn.Sequential(nn.BatchNorm2d(3))
    see_whole_batches(plain, one_of_two, Current(), sync=False)
    assert type(plain[0]) is nn.BatchNorm2d


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
@pytest.mark.parametrize(("amp", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_is_that_of_the_device(
    device: str, amp: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *how, **more: (*how, more["enabled"]))
    kind = torch.device(device).type
    assert Runtime(torch.device(device), amp).autocast() == (kind, dtype, True)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: f"scaler of {device}")
    assert Scaler(torch.device(device))._scaler == f"scaler of {kind}"


@pytest.mark.parametrize("size", ["", "1", "many"])
def test_one_process_of_a_launcher_is_welcome(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert open_runtime("cpu", 1, "none", pytest.fail).device == torch.device("cpu")


def test_loader_processes_that_only_wait_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    runtime, said = Runtime(torch.device("cpu")), list[str]()
    assert runtime.workers(2, pytest.fail) == 2
    assert runtime.workers(20, said.append) == 20
    assert said == [
        "--data.workers 20 is slower than 2, the CPUs this process may use, unless they wait for "
        "the disk"
    ]


def test_workers_follow_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = open_runtime("cpu", 1, "none", pytest.fail)
    assert [runtime.workers(wanted) for wanted in (-1, 0, 3)] == [0, 0, 3]
