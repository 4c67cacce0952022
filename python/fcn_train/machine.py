"""The CPUs and memory that this process may use, within a container's limits."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fcn_train.errors import UsageError

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
STATM = Path("/proc/self/statm")


def cpus() -> int:
    """The CPUs this process may use: its affinity, and the quota of its container."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # systems without affinity
        count = os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota) for quota in _cpu_quotas())]))


def available_memory() -> int | None:
    """Bytes this process may still allocate: the machine's, or its container's if that is less.

    None where the system does not tell.
    """
    free = [limit - used for limit, used in _memory_limits()]
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(1024 * int(line.split()[1]))
    except (OSError, ValueError, IndexError):
        pass
    return max(0, min(free)) if free else None


def resident_memory() -> int | None:
    """Bytes of memory that this process holds; None if the system does not tell."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _cpu_quotas() -> list[float]:
    """CPUs per period, of cgroup version 2 and 1."""
    quotas = []
    for folder in _groups(""):
        parts = _read(folder / "cpu.max").split()
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            quotas.append(int(parts[0]) / max(1, int(parts[1])))
    for folder in _groups("cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / max(1, int(period)))
    return quotas


def _memory_limits() -> list[tuple[int, int]]:
    """Limit and use in bytes, of cgroup version 2 and 1. What the page cache holds can be freed."""
    limits = []
    for kind, limit, used in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _groups(kind):
            most, now = _read(folder / limit), _read(folder / used)
            if most.isdigit() and now.isdigit() and int(most) < 2**60:
                limits.append((int(most), max(0, int(now) - _file_pages(folder))))
    return limits


def _file_pages(folder: Path) -> int:
    """Bytes of the page cache that are charged to a group and not in use."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _groups(controller: str) -> list[Path]:
    """The folders of this process's group and of those above it; "" is version 2."""
    folders = []
    base = CGROUPS / controller
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if (controllers == "") == (controller == "") and controller in controllers.split(","):
            place = base / path.lstrip("/")
            while place != base and base in place.parents:
                folders.append(place)
                place = place.parent
    return [*folders, base]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse what memory cannot hold, before the system kills the process for it.

    Raises:
        UsageError: fewer than ``needed`` bytes are available.
    """
    free = available_memory()
    if free is not None and needed > free:
        raise UsageError(
            f"{what} needs about {needed / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are "
            f"free; {remedy}"
        )
