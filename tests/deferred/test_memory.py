"""What the context holds of full size: the results that are asked for, and no logits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# As benchmarks/memory.py measures: freed memory goes back to the kernel, which knows the peak.
CLEAR_REFS = Path("/proc/self/clear_refs")
RETURNING = "glibc.malloc.mmap_threshold=65536:glibc.malloc.mmap_max=1000000"

# 42 MB of logits at full size.
PROGRAM = """
import json, torch, torch.nn.functional as F
from benchmarks.memory import peak_on_host
from fcn_ext import fused_upsampling, losses

torch.manual_seed(0)
torch.set_num_threads(2)
scores = torch.randn(2, 20, 64, 64, requires_grad=True)
target = torch.randint(0, 20, (2, 512, 512))
masks = torch.randint(0, 2, (2, 20, 512, 512)).float()
labels, weight = masks.bool(), torch.rand(2, 1, 512, 512)
bce = F.binary_cross_entropy_with_logits

def train(loss):
    def call():
        with fused_upsampling():
            logits = F.interpolate(scores, (512, 512), mode="bilinear")
            return torch.autograd.grad(loss(logits), scores)
    return call

def in_parts(parts, of_labels):
    return sum(F.cross_entropy(x, t) for x, t in zip(parts, of_labels))

calls = {
    "cross-entropy": train(lambda x: F.cross_entropy(x, target)),
    "smoothed": train(lambda x: F.cross_entropy(x, target, label_smoothing=0.1)),
    "binary": train(lambda x: bce(x, masks)),
    "images": train(lambda x: in_parts([image[None] for image in x], target.split(1))),
    "pieces": train(lambda x: in_parts(x.chunk(2), target.chunk(2))),
    "pixels": train(lambda x: F.cross_entropy(x, target, reduction="none").mean()),
    "binary pixels": train(lambda x: bce(x, masks, reduction="none").mean()),
    "weighed binary pixels": train(lambda x: bce(x, masks, weight)),
    "our binary pixels": train(
        lambda x: losses.sigmoid_cross_entropy(x, labels, reduction="pixels").mean()),
}
print(json.dumps({name: peak_on_host(call) for name, call in calls.items()}))
"""


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="no /proc that tells a peak")
def test_logits_are_not_stored() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "GLIBC_TUNABLES": RETURNING},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak = json.loads(done.stdout)
    full_size = 2 * 20 * 512 * 512 * 4
    for name in ("cross-entropy", "smoothed", "binary", "images", "pieces"):
        assert peak[name] <= full_size / 10, (name, peak)
    assert peak["pixels"] <= full_size / 4, peak  # some maps without classes
    # A map of losses, its gradient, and the target as bytes with what finds that it is one.
    for name in ("binary pixels", "weighed binary pixels", "our binary pixels"):
        assert peak[name] <= 2.5 * full_size, (name, peak)
