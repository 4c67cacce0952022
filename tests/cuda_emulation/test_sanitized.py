"""The kernels under AddressSanitizer, in programs of their own, one process per case."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def run(program: Path, case: str) -> subprocess.CompletedProcess[str]:
    # The emulation never frees its stacks, so leaks are not looked for.
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [program, case], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("shared", "use-after-poison"),
        ("global", "heap-buffer-overflow"),
        ("local", "stack-buffer-overflow"),
    ],
)
def test_out_of_bounds_is_found(sanitized_program: Path, case: str, found: str) -> None:
    done = run(sanitized_program, case)
    assert done.returncode != 0
    assert f"AddressSanitizer: {found}" in done.stderr
    assert "neighbor_kernel" in done.stderr


@pytest.mark.parametrize(
    "case",
    [
        *("clean", "bilinear_float", "bilinear_half", "cross_entropy", "confusion_matrix"),
        *("argmax_float", "argmax_half", "argmax_confusion", "region_sums", "sigmoid_sums"),
    ],
)
def test_kernels_stay_in_bounds(sanitized_program: Path, case: str) -> None:
    done = run(sanitized_program, case)
    assert done.returncode == 0, done.stderr
