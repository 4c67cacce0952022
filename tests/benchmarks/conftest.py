"""Makes ``import benchmarks`` work wherever pytest is started, behind everything installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .gpu_call import Call

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return Call(tmp_path)
