"""The programs behind `make abi` and its kin: what they would run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .loading import TOOLS, load_tool

newest_torch = load_tool("newest_torch")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("torch (2.14.1)\nAvailable versions: 2.14.1, 2.13.0\n", "2.14.1"),
        ("torch (2.15.0+cpu)\nAvailable versions: 2.15.0+cpu\n", "2.15.0"),
        ("torch (3.0.0rc1)\n", "3.0.0rc1"),
    ],
)
def test_newest_torch_is_that_of_pip(said: str, version: str) -> None:
    assert newest_torch.newest(said) == version


@pytest.mark.parametrize("said", ["", "ERROR: no such package", "torchvision (0.1)"])
def test_no_torch_is_an_error(said: str) -> None:
    with pytest.raises(ValueError, match="pip names no version of torch"):
        newest_torch.newest(said)


def test_abi_runs_each_torch_once(tmp_path: Path) -> None:
    """The newest one may be among those that are named."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 2.13.0\n")
    python.chmod(0o755)
    done = subprocess.run(
        [TOOLS / "abi.sh", "a.whl", python, "2.11.0", "2.13.0", "newest"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DRY_RUN": "1"},
    )
    runs = [line for line in done.stdout.splitlines() if line.startswith("==")]
    assert [run.split(":")[0] for run in runs] == ["== torch 2.11.0", "== torch 2.13.0"]
    assert all("test_torch.sh a.whl 2.1" in run and "tests/ops" in run for run in runs)
