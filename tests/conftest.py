"""Every test with a `device` argument runs on CPU and on CUDA; without a GPU the latter skips."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fcn_ext import _library

# A shell's background commands ignore SIGINT, and what they start does, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _cuda_missing() -> str | None:
    if not torch.cuda.is_available():
        return "no CUDA device here"
    return _library.cuda_problem


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets, which are not part of the repository."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("FCN_SHARED_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip("no real data sets here; set FCN_SHARED_DATA to their folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _cuda_missing()
    if missing is not None:
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    """What earlier tests of this process compiled counts towards dynamo's limit for a function."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
