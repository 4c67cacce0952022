"""Facts about the machine and the environment, collected without torch and fcn_ext."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fcn_train import machine
from fcn_train.needed import PACKAGES

CPUINFO = Path("/proc/cpuinfo")
SHARED_MEMORY = Path("/dev/shm")
# Extras of those who work on fcn_ext itself.
OF_DEVELOPERS = {"dev", "docs"}


def system() -> dict[str, Any]:
    """Operating system, CPU and memory."""
    free = machine.available_memory()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu": cpu_model(),
        "cpus": machine.cpus(),
        "memory_free_gib": None if free is None else round(free / 2**30, 1),
    }


def cpu_model() -> str:
    try:
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def driver() -> str:
    """The version of NVIDIA's driver; "" where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        told = subprocess.run(
            [program, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def storage() -> dict[str, Any]:
    """Whether runs can be written here, and the room for them and for loader processes."""
    return {
        "writable": _writable(Path("runs") if Path("runs").is_dir() else Path()),
        "disk_free_gib": _free(Path()),
        "shared_memory_free_gib": _free(SHARED_MEMORY),
    }


def packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]], dict[str, str]]:
    """What fcn_ext asks for, as its metadata says.

    Returns:
        The versions of the packages it needs, None for one that is missing; the same of each
        extra; and for each extra that lacks something the command that brings it.
    """
    needed: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    missing: dict[str, list[str]] = {}
    try:
        requirements = importlib.metadata.requires("fcn_ext") or []
    except importlib.metadata.PackageNotFoundError:  # found by PYTHONPATH alone
        requirements = list(PACKAGES.values())
    for requirement in requirements:
        what, _, marker = requirement.partition(";")
        name = re.split(r"[\s<>=!~\[(]", what.strip(), maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
        if extra is None:
            needed[name] = _needed_version(name)
        elif extra[1] not in OF_DEVELOPERS:
            found = extras.setdefault(extra[1], {})
            found[name] = _version(name)
            if found[name] is None:
                missing.setdefault(extra[1], []).append(f"'{what.strip()}'")
    commands = {extra: f"pip install {' '.join(lacks)}" for extra, lacks in missing.items()}
    return needed, extras, commands


def _needed_version(name: str) -> str | None:
    """By its module: another package may bring it (pillow-simd), or what is left of it may not."""
    modules = {package: module for module, package in PACKAGES.items()}
    if importlib.util.find_spec(modules.get(name, name)) is None:
        return None
    return _version(name) or "unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _free(path: Path) -> float | None:
    """GiB free; None where there is no such place."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return round(status.f_bavail * status.f_frsize / 2**30, 2)
