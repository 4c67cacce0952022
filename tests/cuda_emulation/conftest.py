"""Builds the CUDA kernels against the emulation of CUDA and calls them through ctypes.

``emulator/`` and ``entry_points/`` make up the shared library; ``emulator/`` and ``sanitized/`` a
program of its own, built with AddressSanitizer. Objects are kept under ``build/`` by the hash of
their preprocessed source, so that only what changed is compiled again.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from .operands import LABELS, SCORES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / "build" / "cuda_emulation"
FLAGS = [
    "-std=c++17",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-DFCN_EXT_CUDA_EMULATION",
    f"-I{ROOT / 'csrc'}",
    f"-I{HERE / 'emulator'}",
    "-isystem",
    str(Path(torch.__file__).resolve().parent / "include"),
]
RELEASE = ["-O2"]
# The kernels' calls of these functions go to emulator/approximations.cpp.
LINK = [f"-Wl,--wrap={function}" for function in ("expf", "logf", "exp", "log")]
SANITIZED = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# What approximate functions return, by the number of emulator/approximations.h's Approximation.
APPROXIMATIONS = ["exact", "random", "up", "down", "spread"]


class EmulationError(RuntimeError):
    """What the emulation found wrong with a kernel or its launch."""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def _build(name: str, folders: list[str], flags: list[str], link: list[str]) -> Path:
    """Compiles and links what has changed, once, however many test processes ask for it."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    sources = [source for folder in folders for source in sorted((HERE / folder).glob("*.cpp"))]
    flags = [*FLAGS, *flags]
    CACHE.mkdir(parents=True, exist_ok=True)

    def compile_unit(source: Path) -> Path:
        text = _run([compiler, *flags, "-E", str(source)])
        digest = hashlib.sha256("\0".join([compiler, *flags, text]).encode()).hexdigest()[:24]
        target = CACHE / f"{source.stem}-{digest}.o"
        if not target.exists():
            partial = target.with_suffix(".partial")
            _run([compiler, *flags, "-c", str(source), "-o", str(partial)])
            partial.rename(target)
        return target

    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(max_workers=2) as pool:
            objects = list(pool.map(compile_unit, sources))
        digest = hashlib.sha256("\0".join(map(str, objects)).encode()).hexdigest()[:24]
        target = CACHE / f"{name}-{digest}"
        if not target.exists():
            partial = target.with_suffix(".partial")
            _run([compiler, *flags, *LINK, *link, *map(str, objects), "-o", str(partial)])
            partial.rename(target)
    return target


def _converted(argument: object) -> object:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, tuple):
        return (ctypes.c_int64 * len(argument))(*argument)
    if isinstance(argument, float):
        return ctypes.byref(ctypes.c_double(argument))
    if isinstance(argument, torch.dtype):
        types = SCORES if argument in SCORES else LABELS
        return ctypes.c_int64(types.index(argument))
    assert isinstance(argument, int)
    return ctypes.c_int64(argument)


class Emulation:
    """The entry points of the shared library, with errors as exceptions."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.cuda_emulation_error.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: object) -> None:
        """Calls an entry point: ints are passed as int64, types by their number, tensors, tuples of
        ints (as int64) and floats (as double) by pointers, None as null."""
        converted = [_converted(argument) for argument in arguments]
        if getattr(self._library, name)(*converted) != 0:
            raise EmulationError(self._library.cuda_emulation_error().decode())

    def set_seed(self, seed: int) -> None:
        """Draws another order of threads and blocks."""
        self._library.cuda_emulation_set_seed(ctypes.c_uint64(seed))

    def set_approximation(self, name: str, seed: int = 0) -> None:
        """Has approximate functions return something else that hardware might return."""
        self._library.cuda_emulation_set_approximation(
            APPROXIMATIONS.index(name), ctypes.c_uint64(seed)
        )

    def set_device(self, multiprocessors: int = 132, shared_bytes_per_block: int = 232448) -> None:
        """Sets what the emulated device offers; the default is an H100."""
        self._library.cuda_emulation_set_device(multiprocessors, shared_bytes_per_block)

    def take_traffic(self) -> dict[str, int]:
        """Bytes loaded and stored by kernels, and 16-byte accesses, since the last call."""
        counts = (ctypes.c_uint64 * 4)()
        self._library.cuda_emulation_take_traffic(counts)
        names = ("loaded", "stored", "vector_loads", "vector_stores")
        return dict(zip(names, counts, strict=True))


@pytest.fixture(scope="session")
def emulation_library() -> Emulation:
    return Emulation(_build("emulation.so", ["emulator", "entry_points"], RELEASE, ["-shared"]))


@pytest.fixture
def emulation(emulation_library: Emulation, request: pytest.FixtureRequest) -> Iterator[Emulation]:
    """The library in its initial state; torch keeps to one thread, as the emulation does.

    Every test draws orders of threads of its own, the same on every run, every call another one,
    and errors of the approximate functions.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seed = zlib.crc32(request.node.nodeid.encode())
    emulation_library.set_seed(seed)
    emulation_library.set_approximation("random", seed)
    yield emulation_library
    emulation_library.set_device()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sanitized_program() -> Path:
    """Runs one named case with AddressSanitizer; see sanitized/main.cpp."""
    return _build("sanitized", ["emulator", "sanitized"], SANITIZED, [])
