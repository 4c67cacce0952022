"""Builds the CUDA kernels against the emulation of CUDA and calls them through ctypes.

``emulator/`` and ``entry_points/`` make up the shared library; with ``races/``, another one, which
finds races; ``emulator/`` and ``sanitized/`` a program of its own, built with AddressSanitizer.
Objects are kept under ``build/`` by the hash of their preprocessed source, so that only what has
changed is compiled again.
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
# Has the compiler report every access, see races/races.h; the library that it is for is not linked.
REPORTED = ["-O1", "-g1", "-fsanitize=thread", "-include", str(HERE / "races" / "memory_calls.h")]
REPORTED += [f"-fno-builtin-{function}" for function in ("memcpy", "memmove", "memset")]

# What approximate functions return, by the number of emulator/approximations.h's Approximation.
APPROXIMATIONS = ["exact", "random", "up", "down", "spread"]


class EmulationError(RuntimeError):
    """What the emulation found wrong with a kernel or its launch."""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def _build(name: str, folders: dict[str, list[str]], link: list[str]) -> Path:
    """Compiles the folders, each with its flags, and links them in this order: what has changed,
    once, however many test processes ask for it."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    sources = [
        (source, [*FLAGS, *flags])
        for folder, flags in folders.items()
        for source in sorted((HERE / folder).glob("*.cpp"))
    ]
    CACHE.mkdir(parents=True, exist_ok=True)

    def compile_unit(unit: tuple[Path, list[str]]) -> Path:
        source, flags = unit
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
            _run([compiler, *LINK, *link, *map(str, objects), "-o", str(partial)])
            partial.rename(target)
    return target


def _converted(argument: object) -> object:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, tuple):
        return (ctypes.c_int64 * len(argument))(*argument)
    if isinstance(argument, str):
        return ctypes.c_char_p(argument.encode())
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

    def set_device(
        self,
        multiprocessors: int = 132,
        shared_bytes_per_block: int = 232448,
        capability: int = 90,
    ) -> None:
        """Sets what the emulated device offers; the default is an H100."""
        device = multiprocessors, shared_bytes_per_block, capability
        self._library.cuda_emulation_set_device(*device)

    def take_traffic(self) -> dict[str, int]:
        """Bytes loaded and stored by kernels, and 16-byte accesses, since the last call."""
        counts = (ctypes.c_uint64 * 4)()
        self._library.cuda_emulation_take_traffic(counts)
        names = ("loaded", "stored", "vector_loads", "vector_stores")
        return dict(zip(names, counts, strict=True))


@pytest.fixture(scope="session")
def plain_library() -> Emulation:
    folders = {"emulator": RELEASE, "entry_points": RELEASE}
    return Emulation(_build("emulation.so", folders, ["-shared"]))


@pytest.fixture(scope="session")
def checked_library() -> Emulation:
    """With the checker of races: a call raises EmulationError if it finds one.

    Of functions of the standard library that are in several objects, the linker takes the first:
    the emulator's, whose accesses are not reported.
    """
    folders = {"emulator": RELEASE, "races": RELEASE}
    folders |= {"races/planted": REPORTED, "entry_points": REPORTED}
    return Emulation(_build("checked.so", folders, ["-shared"]))


def _prepared(library: Emulation, request: pytest.FixtureRequest) -> Iterator[Emulation]:
    """The library in its initial state; torch keeps to one thread, as the emulation does.

    Every test draws orders of threads of its own, the same on every run, every call another one,
    and errors of the approximate functions.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seed = zlib.crc32(request.node.nodeid.encode())
    library.set_seed(seed)
    library.set_approximation("random", seed)
    yield library
    library.set_device()
    torch.set_num_threads(threads)


@pytest.fixture
def plain(plain_library: Emulation, request: pytest.FixtureRequest) -> Iterator[Emulation]:
    yield from _prepared(plain_library, request)


@pytest.fixture
def checked(checked_library: Emulation, request: pytest.FixtureRequest) -> Iterator[Emulation]:
    checked_library.call("races_set_strict", 0)
    yield from _prepared(checked_library, request)


@pytest.fixture
def emulation(request: pytest.FixtureRequest) -> Emulation:
    """FCN_EXT_RACES=1 in the environment has the checker of races look at all tests' launches,
    FCN_EXT_RACES=strict by the strict rule of races/races.h."""
    check = os.environ.get("FCN_EXT_RACES", "0")
    library: Emulation = request.getfixturevalue("plain" if check == "0" else "checked")
    if check == "strict":
        library.call("races_set_strict", 1)
    return library


@pytest.fixture(scope="session")
def sanitized_program() -> Path:
    """Runs one named case with AddressSanitizer; see sanitized/main.cpp."""
    return _build("sanitized", {"emulator": SANITIZED, "sanitized": SANITIZED}, SANITIZED)
