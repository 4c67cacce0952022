"""Each copy of the heads' CPU kernels against the reference; a set the machine lacks falls back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import torch
from contract import channels_last, contiguous
from heads import GEOMETRIES, trained_like
from test_argmax import assert_matches as assert_argmax
from losses import assert_matches as assert_loss
from test_head_confusion_matrix import assert_counts
from fcn_ext import numpy

weight = torch.linspace(0, 2, 37)
kinds = (
    (torch.float32, contiguous),
    (torch.bfloat16, channels_last),
    (torch.float16, contiguous),
    (torch.float64, channels_last),
)
for geometry in GEOMETRIES[::2]:
    target = geometry.labels(2, 37).to(torch.uint8)
    for dtype, layout in kinds:
        scores = layout(geometry.scores(2, 37, dtype))
        likely = layout(trained_like(geometry, 2, 37, dtype))
        assert_loss(geometry, scores, target, weight=weight, label_smoothing=0.1)
        for given in (scores, likely):
            assert_argmax(geometry, given)
            assert_counts(geometry, given, target)
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
