"""The emulation as fixtures: the plain library, the one that finds races, and the program with
AddressSanitizer."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .library import RELEASE, REPORTED, SANITIZED, Emulation, build
from .machine_code import MachineCode


@pytest.fixture(scope="session")
def plain_library() -> Emulation:
    folders = {"emulator": RELEASE, "entry_points": RELEASE}
    return Emulation(build("emulation.so", folders, ["-shared"]))


@pytest.fixture(scope="session")
def checked_library() -> Emulation:
    """The library with the race checker: a call raises EmulationError if it finds a race.

    If several objects hold a function of the standard library, the linker takes the first one: the
    emulator's, whose accesses are not reported.
    """
    folders = {"emulator": RELEASE, "races": RELEASE}
    folders |= {"races/planted": REPORTED, "entry_points": REPORTED}
    return Emulation(build("checked.so", folders, ["-shared"]))


def _prepared(library: Emulation, request: pytest.FixtureRequest) -> Iterator[Emulation]:
    """The library in its initial state; torch uses one thread, as the emulation does.

    Every test has its own order of threads, the same in every run but another one for each call,
    and its own errors of the approximate functions.
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


@pytest.fixture(scope="session")
def machine_code() -> MachineCode:
    return MachineCode(Path(os.environ["FCN_EXT_MACHINE_CODE"]))


@pytest.fixture
def emulation(request: pytest.FixtureRequest) -> Iterator[Emulation]:
    """The library that runs kernels, chosen by the environment: FCN_EXT_RACES=1 checks all tests'
    launches for races, FCN_EXT_RACES=strict by the strict rule of races/races.h.
    FCN_EXT_MACHINE_CODE=build/cuda/libfcn_ext_cuda.so runs the machine code of the compiled kernels
    (tools/sass), slowly."""
    check = os.environ.get("FCN_EXT_RACES", "0")
    library: Emulation = request.getfixturevalue("plain" if check == "0" else "checked")
    if check == "strict":
        library.call("races_set_strict", 1)
    if "FCN_EXT_MACHINE_CODE" in os.environ:
        library.take_launches(request.getfixturevalue("machine_code").run)
    yield library
    library.take_launches(None)


@pytest.fixture(scope="session")
def sanitized_program() -> Path:
    """Runs one named case with AddressSanitizer; see sanitized/main.cpp."""
    return build("sanitized", {"emulator": SANITIZED, "sanitized": SANITIZED}, SANITIZED)
