"""gpu.sh says what it would do, without doing it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_dry_run(tmp_path: Path) -> None:
    done = run(str(tmp_path / "out"), "--dry-run", FCN_EXT_GPU_SH_DEVICE="cuda")
    assert done.returncode == 0, done.stderr
    stages = ["install", "tests", "heads", "benchmark", "train"]
    lines = {line.split(",")[0]: line for line in done.stdout.splitlines() if " at most " in line}
    assert [name for name in lines if name in stages] == stages
    assert "--no-build-isolation" in lines["install"]
    assert "-m cuda" in lines["tests"]
    assert "--device cuda --rows operators" in lines["benchmark"].replace("\\", "")
    assert "--device cuda --rows heads" in lines["heads"].replace("\\", "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_wrong_arguments(tmp_path: Path) -> None:
    assert run().returncode == 2
    assert run("--unknown").returncode == 2
    done = run(str(tmp_path), FCN_EXT_GPU_SH_DEVICE="tpu")
    assert done.returncode == 2
    assert "FCN_EXT_GPU_SH_DEVICE must be cuda or cpu, got tpu" in done.stderr
