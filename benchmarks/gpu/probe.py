"""What gpu.sh must know of the machine, as lines KEY=VALUE; imports torch only for a GPU.

``python probe.py [--gpu] [--wheels FOLDER] NAME...``: each NAME is a module or a program;
``lacks=NAME`` says that neither it nor a wheel of it is here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sysconfig
import zipfile
from pathlib import Path

# Programs with several names, and variables that name another.
PROGRAMS = {"c++": ("c++", "g++", "clang++"), "nvcc": ("nvcc",)}
VARIABLES = {"c++": ("CXX",), "nvcc": ("CUDACXX", "CUDA_HOME", "CUDA_PATH")}


def installed(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def modules_of(wheel: Path) -> set[str]:
    """The top-level names that a wheel makes importable."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    return {top.removesuffix(".py") for top in tops if not top.endswith((".dist-info", ".data"))}


def is_here(name: str, carried: set[str]) -> bool:
    folder = Path(sysconfig.get_path("purelib")) / "nvidia/cu13/bin"  # nvcc, as PyPI has it
    return (
        name in carried
        or (name not in PROGRAMS and importlib.util.find_spec(name) is not None)
        or any(os.environ.get(variable) for variable in VARIABLES.get(name, ()))
        or any(
            shutil.which(program) or shutil.which(program, path=str(folder))
            for program in PROGRAMS.get(name, (name,))
        )
    )


def gpu() -> dict[str, str]:
    """Name and capability of the GPU that torch sees; empty if it sees none."""
    import torch

    if not torch.cuda.is_available():
        return {}
    found = torch.cuda.get_device_properties(0)
    return {"gpu": found.name, "capability": f"{found.major}{found.minor}"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print(f"python={platform.python_version()}")
    print(f"abi={sysconfig.get_config_var('SOABI')}")
    print(f"torch={installed('torch') or ''}")
    carried: set[str] = set()
    for wheel in sorted(options.wheels.glob("*.whl")) if options.wheels else []:
        # What the interpreter already has is left alone.
        if installed(wheel.name.split("-")[0]) is None:
            carried |= modules_of(wheel)
            print(f"wheel={wheel}")
    lacking = [name for name in dict.fromkeys(options.names) if not is_here(name, carried)]
    if options.gpu and "torch" not in lacking:
        found = gpu()
        for key, value in found.items():
            print(f"{key}={value}")
        lacking += [] if found else ["GPU"]
    for name in lacking:
        print(f"lacks={name}")


if __name__ == "__main__":
    main()
