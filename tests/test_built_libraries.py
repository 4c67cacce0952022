"""The operator libraries as built: what each asks of the machine that loads it, GPU or none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from fcn_ext import _library

ROOT = Path(__file__).resolve().parents[1]
# Functions of LibTorch's stable ABI, as promised since torch 2.11.
TORCH_SYMBOLS = set((Path(__file__).parent / "torch_symbols.txt").read_text().split())
SYSTEM_LIBRARIES = re.compile(
    r"(lib(torch_cuda|torch_cpu)\.so|lib(stdc\+\+|gcc_s|m|c|dl|rt|pthread)\.so\.\d+|ld-linux.*)"
)


def cuda_library() -> Path:
    """FCN_EXT_CUDA_LIBRARY, the installed one, or what `make cuda` left."""
    named = os.environ.get("FCN_EXT_CUDA_LIBRARY")
    if named:
        return Path(named)
    for path in (_library._CUDA, ROOT / "build/cuda/libfcn_ext_cuda.so"):
        if path.is_file():
            return path
    pytest.skip("libfcn_ext_cuda.so is not built here (make cuda builds it)")


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def library(request: pytest.FixtureRequest) -> Path:
    return cuda_library() if request.param == "cuda" else _library._CPU


def run(tool: str, *arguments: str | Path) -> list[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool} (binutils)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def undefined(library: Path) -> list[list[str]]:
    """The kind and the name of every symbol that others must have."""
    return [line.split()[-2:] for line in run("nm", "-D", "--undefined-only", library)]


def test_asks_for_stable_functions_of_torch_and_the_system_alone(library: Path) -> None:
    """Symbols are versioned by glibc, libstdc++ or libgcc, optional, or torch's stable ones, so
    that one build outlives torch releases."""
    versioned = re.compile(r".*@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+")
    strangers = {
        name
        for kind, name in undefined(library)
        if kind != "w" and not versioned.fullmatch(name) and name not in TORCH_SYMBOLS
    }
    assert strangers == set()


def test_cuda_work_goes_to_the_current_stream() -> None:
    assert "aoti_torch_get_current_cuda_stream" in {name for _, name in undefined(cuda_library())}


def test_every_generation_of_gpus_has_code_or_ptx() -> None:
    """As the library says of itself; one that was built for less says what it was built for."""
    library = cuda_library()
    says = re.search(rb"CUDA [\d.]+ for [\w, ]*PTX ([\w, ]+)", library.read_bytes())
    assert says
    ptx = says[1].decode().split(", ")
    if library == ROOT / "build/cuda/libfcn_ext_cuda.so":
        assert ptx[:4] == ["compute_75", "compute_80", "compute_90", "compute_100"]
    assert all(name.startswith("compute_") for name in ptx)


def test_links_no_cuda_runtime_and_no_path(library: Path) -> None:
    entries = run("readelf", "-d", library)
    needed = {re.findall(r"\[(.*)\]", line)[0] for line in entries if "(NEEDED)" in line}
    assert {name for name in needed if not SYSTEM_LIBRARIES.fullmatch(name)} == set()
    assert "libtorch_cpu.so" in needed
    assert ("libtorch_cuda.so" in needed) == ("cuda" in library.name)
    assert not [line for line in entries if "(RPATH)" in line or "(RUNPATH)" in line]


def test_keeps_its_own_symbols_to_itself(library: Path) -> None:
    """What C++'s standard library makes every binary export is all there is."""
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", "-C", library)}
    ours = [name for name in exported if "fcn_ext" in name or "cuda" in name.lower()]
    assert ours == []


def hold_no_path(binary: Path) -> None:
    content = binary.read_bytes()
    for path in ("site-packages", ROOT, Path(torch.__file__).parent):
        assert os.fsencode(path) not in content


def test_names_no_path_of_the_machine_that_built_it(library: Path) -> None:
    hold_no_path(library)


def test_the_module_beside_them_names_no_path_either() -> None:
    hold_no_path(Path(_library._host.__file__))
