"""The peak memory of calls, in a process of its own where freed memory goes back to the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import CLEAR_REFS, RETURNING

needs_peaks = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="no /proc that tells a peak")


def printed_peaks(program: str) -> dict[str, int]:
    """What a program prints as JSON: bytes by the name of a call, of benchmarks.memory. Here it
    measures fewer calls than for figures."""
    fewer = "import benchmarks.memory; benchmarks.memory.REPEATS = 2"
    done = subprocess.run(
        [sys.executable, "-c", f"{fewer}\n{program}"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "GLIBC_TUNABLES": RETURNING},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks: dict[str, int] = json.loads(done.stdout)
    return peaks
