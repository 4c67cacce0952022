"""Where and how figures were measured, and under which malloc."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import fcn_ext.numpy

# Freed blocks stay in the process: the best case of peers that allocate large temporaries, which
# otherwise pay the kernel's page faults on every call.
KEEPING = (
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.top_pad=67108864"
)


def ensure_malloc(policy: str) -> None:
    """Restarts the program under the malloc that ``policy`` asks for, which is set at start-up."""
    wanted = KEEPING if policy == "keep" else ""
    if os.environ.get("GLIBC_TUNABLES", "") == wanted or platform.libc_ver()[0] != "glibc":
        return
    environment = {**os.environ, "GLIBC_TUNABLES": wanted}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def cores() -> int:
    """The number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """The environment of a result file."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device.type,
        "device_name": device_name(device),
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": threads,
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "fcn_ext": fcn_ext.numpy.build_info(),
        # If above ``threads`` afterwards, or above 0 before, others used the machine meanwhile.
        "load_before": os.getloadavg()[0],
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["cuda"] = {
            "runtime": torch.version.cuda,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "l2_mib": round(properties.L2_cache_size / 2**20, 1),
            "before": clocks(),
        }
    return found


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()


def clocks() -> dict[str, str]:
    """The GPU's current driver, clocks, power and temperature, if nvidia-smi reports them."""
    fields = "driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    told = subprocess.run(
        [program, f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    values = told.stdout.strip().split(", ")
    return dict(zip(fields.split(","), values, strict=False)) if told.returncode == 0 else {}
