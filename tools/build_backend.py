"""scikit-build-core, told which torch to build against.

The operators use LibTorch's stable ABI, so the headers of any torch >= 2.11 will do. A torch that
the target environment already has is used in place, even under build isolation; only where there
is none is torch added to the build requirements.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

from scikit_build_core import build as backend
from scikit_build_core.build import (
    build_sdist,
    get_requires_for_build_sdist,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

_TORCH = "torch>=2.11"
_PROOF = Path("include/torch/csrc/stable/library.h")


def _torch_root() -> Path | None:
    """The folder of a torch package with the stable ABI's headers, or None."""
    named = os.environ.get("FCN_EXT_TORCH_ROOT")
    if named:
        if not (Path(named) / _PROOF).is_file():
            sys.exit(f"FCN_EXT_TORCH_ROOT must hold {_PROOF}, got {named}")
        return Path(named)
    folders = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        folders.insert(0, str(Path(spec.submodule_search_locations[0]).parent))
    for folder in folders:
        root = Path(folder) / "torch"
        if (root / _PROOF).is_file() and _version(root) >= (2, 11):
            return root
    return None


def _version(root: Path) -> tuple[int, int]:
    header = (root / "include/torch/headeronly/version.h").read_text()
    found = {
        words[1]: int(words[2])
        for words in map(str.split, header.splitlines())
        if len(words) == 3 and words[0] == "#define" and words[2].isdigit()
    }
    return found.get("TORCH_VERSION_MAJOR", 0), found.get("TORCH_VERSION_MINOR", 0)


def _requires(of_backend: list[str]) -> list[str]:
    root = _torch_root()
    print(f"fcn_ext: building against {root or _TORCH + ', to be installed for the build'}")
    return of_backend if root else [*of_backend, _TORCH]


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    return _requires(backend.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    return _requires(backend.get_requires_for_build_editable(config_settings))


def _point_cmake_at_torch() -> None:
    root = _torch_root()
    if root is not None:
        os.environ["FCN_EXT_TORCH_ROOT"] = str(root)


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    _point_cmake_at_torch()
    return backend.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    _point_cmake_at_torch()
    return backend.build_editable(wheel_directory, config_settings, metadata_directory)
