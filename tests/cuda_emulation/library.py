"""Builds the CUDA kernels against the emulation of CUDA and calls them through ctypes.

``emulator/`` and ``entry_points/`` make up the shared library; with ``races/`` they make another
one, which finds races; ``emulator/`` and ``sanitized/`` make a program built with AddressSanitizer.
Objects are cached under ``build/`` by the hash of their preprocessed source, so that only what has
changed is compiled again.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
SANITIZED = ["-Og", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# Makes the compiler report every access (races/races.h); the sanitizer's library is not linked.
REPORTED = ["-O1", "-g1", "-fsanitize=thread", "-include", str(HERE / "races" / "memory_calls.h")]
REPORTED += [f"-fno-builtin-{function}" for function in ("memcpy", "memmove", "memset")]

# What approximate functions return, in the order of Approximation in emulator/approximations.h.
APPROXIMATIONS = ["exact", "random", "up", "down", "spread"]


class EmulationError(RuntimeError):
    """What the emulation found wrong with a kernel or its launch."""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(name: str, folders: dict[str, list[str]], link: list[str]) -> Path:
    """Compiles the folders, each with its flags, and links them in this order: only what has
    changed, and only once, however many test processes ask for it."""
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


@dataclass(frozen=True)
class EmulatedLaunch:
    """A launch: the kernel's mangled name, grid and block (x, y, z), bytes of shared memory, and
    the parameters as a GPU's kernel finds them."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int
    parameters: bytes


_TAKER = ctypes.CFUNCTYPE(
    None,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
)


class Emulation:
    """The entry points of the shared library, with errors as exceptions."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.cuda_emulation_error.restype = ctypes.c_char_p
        self._taker_error: Exception | None = None

    def call(self, name: str, *arguments: object) -> None:
        """Calls an entry point: passes ints as int64, types by their number, tensors, tuples of
        ints (as int64) and floats (as double) by pointer, None as null."""
        converted = [_converted(argument) for argument in arguments]
        failed = getattr(self._library, name)(*converted) != 0
        error, self._taker_error = self._taker_error, None
        if error is not None:
            raise error
        if failed:
            raise EmulationError(self._library.cuda_emulation_error().decode())

    def set_seed(self, seed: int) -> None:
        """Draws another order of threads and blocks."""
        self._library.cuda_emulation_set_seed(ctypes.c_uint64(seed))

    def set_approximation(self, name: str, seed: int = 0) -> None:
        """Makes approximate functions return other values that hardware might return."""
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

    def take_launches(self, take: Callable[[EmulatedLaunch], None] | None) -> None:
        """Gives launches to a function instead of running them; with None, runs them again.
        Workspaces live as long as the entry point's call."""

        def taken(
            kernel: bytes,
            sizes: ctypes._Pointer[ctypes.c_uint],
            shared_bytes: int,
            parameters: int,
            parameter_bytes: int,
        ) -> None:
            assert take is not None
            given = ctypes.string_at(parameters, parameter_bytes)
            grid, block = tuple(sizes[:3]), tuple(sizes[3:6])
            try:
                take(EmulatedLaunch(kernel.decode(), grid, block, shared_bytes, given))
            except Exception as error:  # ctypes would print it and go on
                self._taker_error = self._taker_error or error

        # Kept alive, or ctypes would free what the library calls.
        self._taker = _TAKER(taken) if take is not None else _TAKER()
        self._library.cuda_emulation_set_taker(self._taker)

    def take_traffic(self) -> dict[str, int]:
        """Bytes loaded and stored by kernels, and 16-byte accesses, since the last call."""
        counts = (ctypes.c_uint64 * 4)()
        self._library.cuda_emulation_take_traffic(counts)
        names = ("loaded", "stored", "vector_loads", "vector_stores")
        return dict(zip(names, counts, strict=True))
