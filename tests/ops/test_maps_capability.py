"""Each copy of the other CPU kernels against the reference; a set the machine lacks falls back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import torch
from contract import TOLERANCE, channels_last, contiguous
from test_confusion_matrix import test_many_mixed_pixels as mixed_pixels
from test_interpolate import TestInterpolate
from test_upsample import TestUpsample
from test_wide_maps import POINTS, test_gradient_of_wide_rows as wide_rows
from test_wide_maps import test_gradient_reaches_what_the_pixel_reads as one_pixel
from fcn_ext import numpy

cpu = torch.device("cpu")
for contract in (TestUpsample(), TestInterpolate()):
    for case in contract.cases:
        for dtype in TOLERANCE:
            contract.test_matches_reference(case, dtype, cpu)
            contract.test_gradient_matches_reference(case, dtype, cpu)
        contract.test_any_layout(case, torch.float32, channels_last, cpu)
for case in POINTS:
    one_pixel(case, float("inf"))
for dtype in (torch.float32, torch.float64):
    wide_rows("clamped-16", dtype, contiguous, cpu)
for num_classes in (64, 65):
    mixed_pixels(num_classes, cpu)
print(numpy.build_info()["cpu_capability"])
"""


@pytest.mark.parametrize("capability", ["plain", "avx2", "avx512"])
def test_every_instruction_set_agrees(capability: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "FCN_EXT_CPU_CAPABILITY": capability,
            "PYTHONPATH": str(Path(__file__).parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("plain", "avx2", "avx512")
    assert capability != "plain" or done.stdout.strip() == "plain"
