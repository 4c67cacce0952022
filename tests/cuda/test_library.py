"""The CUDA library as built, with or without a GPU: what it asks of the machine that loads it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fcn_ext import _library

ROOT = Path(__file__).resolve().parents[2]
# Functions of LibTorch's stable ABI, as promised since torch 2.11.
TORCH_SYMBOLS = set((Path(__file__).parent / "torch_symbols.txt").read_text().split())
SYSTEM_LIBRARIES = re.compile(
    r"(lib(torch_cuda|torch_cpu)\.so|lib(stdc\+\+|gcc_s|m|c|dl|rt|pthread)\.so\.\d+|ld-linux.*)"
)


@pytest.fixture(scope="module")
def library() -> Path:
    named = os.environ.get("FCN_EXT_CUDA_LIBRARY")
    if named:
        return Path(named)
    for path in (_library._CUDA, ROOT / "build/cuda/libfcn_ext_cuda.so"):
        if path.is_file():
            return path
    pytest.skip("libfcn_ext_cuda.so is not built here (make cuda builds it)")


def run(tool: str, *arguments: str | Path) -> list[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool} (binutils)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_asks_for_stable_functions_of_torch_and_the_system_alone(library: Path) -> None:
    """Symbols are versioned by glibc, libstdc++ or libgcc, optional, or torch's stable ones."""
    needed = [line.split()[-2:] for line in run("nm", "-D", "--undefined-only", library)]
    versioned = re.compile(r".*@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+")
    strangers = {
        name
        for kind, name in needed
        if kind != "w" and not versioned.fullmatch(name) and name not in TORCH_SYMBOLS
    }
    assert strangers == set()
    assert "aoti_torch_get_current_cuda_stream" in {name for _, name in needed}


def test_links_no_cuda_runtime_and_no_path(library: Path) -> None:
    entries = run("readelf", "-d", library)
    needed = {re.findall(r"\[(.*)\]", line)[0] for line in entries if "(NEEDED)" in line}
    assert {name for name in needed if not SYSTEM_LIBRARIES.fullmatch(name)} == set()
    assert {"libtorch_cuda.so", "libtorch_cpu.so"} <= needed
    assert not [line for line in entries if "(RPATH)" in line or "(RUNPATH)" in line]


def test_keeps_its_own_symbols_to_itself(library: Path) -> None:
    """What C++'s standard library makes every binary export is all there is."""
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", "-C", library)}
    ours = [name for name in exported if "fcn_ext" in name or "cuda" in name.lower()]
    assert ours == []


def test_names_no_path_of_the_machine_that_built_it(library: Path) -> None:
    content = library.read_bytes()
    assert b"site-packages" not in content
    assert os.fsencode(ROOT) not in content
