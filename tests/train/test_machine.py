"""CPUs and memory within a container's limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcn_train import machine
from fcn_train.errors import UsageError

GIB = 2**30


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 CPUs with 32 GiB free, and no limits yet."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {32 * 2**20} kB\n")
    (tmp_path / "membership").write_text("0::/\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_machine_without_limits(container: Path) -> None:
    assert machine.cpus() == 64
    assert machine.available_memory() == 32 * GIB


def test_system_that_tells_nothing(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (container / "meminfo").unlink()
    (container / "membership").unlink()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpus() == 1
    assert machine.available_memory() is None
    machine.check_memory(1e30, "--x", "do y")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)],
)
def test_quota_of_version_2(text: str, cpus: int, container: Path) -> None:
    write(container / "cpu.max", text)
    assert machine.cpus() == cpus


def test_narrowest_of_nested_groups_counts(container: Path) -> None:
    (container / "membership").write_text("0::/pod/box\n")
    write(container / "cpu.max", "max 100000")
    write(container / "pod/cpu.max", "300000 100000")
    write(container / "pod/box/cpu.max", "800000 100000")
    write(container / "pod/memory.max", str(4 * GIB))
    write(container / "pod/memory.current", str(3 * GIB))
    write(container / "pod/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    write(container / "pod/box/memory.max", "max")
    write(container / "pod/box/memory.current", str(3 * GIB))
    assert machine.cpus() == 3
    assert machine.available_memory() == 2 * GIB  # what the page cache holds can be freed


def test_limits_of_version_1(container: Path) -> None:
    (container / "membership").write_text("4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n")
    write(container / "cpu/box/cpu.cfs_quota_us", "400000")
    write(container / "cpu/box/cpu.cfs_period_us", "100000")
    write(container / "memory/box/memory.limit_in_bytes", str(2 * GIB))
    write(container / "memory/box/memory.usage_in_bytes", str(GIB))
    write(container / "memory/memory.limit_in_bytes", str(2**63 - 4096))  # stands for none
    write(container / "memory/memory.usage_in_bytes", str(9 * GIB))
    assert machine.cpus() == 4
    assert machine.available_memory() == GIB
    write(container / "cpu/box/cpu.cfs_quota_us", "-1")
    assert machine.cpus() == 64


def test_more_than_there_is(container: Path) -> None:
    machine.check_memory(32 * GIB, "--data.memory", "leave it out")
    message = r"--data.memory needs about 33.0 GiB of memory, 32.0 GiB are free; leave it out"
    with pytest.raises(UsageError, match=message):
        machine.check_memory(33 * GIB, "--data.memory", "leave it out")


def test_this_machine_has_something() -> None:
    assert 1 <= machine.cpus() <= (os.cpu_count() or 1)
    free = machine.available_memory()
    assert free is None or free > 0
