"""The heads hold nothing of full size: their peak memory next to plain PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forked_programs import run_each
from tests.peaks import needs_peaks, printed_peaks

# 42 MB of logits at full size.
PROGRAM = """
import json, torch, torch.nn.functional as F
from benchmarks.memory import peak_on_host
from fcn_ext import losses, ops, prediction, reference_losses

torch.manual_seed(0)
torch.set_num_threads(2)
scores = torch.randn(1, 40, 64, 64, requires_grad=True)
target = torch.randint(0, 40, (1, 512, 512), dtype=torch.uint8)
long = target.long()
masks = torch.randint(0, 2, (1, 40, 512, 512), dtype=torch.uint8)
float_masks = masks.float()

def train(loss):
    return lambda: torch.autograd.grad(loss(), scores)

def logits():
    return F.interpolate(scores, (512, 512), mode="bilinear")

def score(head):
    with torch.no_grad():
        return head()

def canvas():
    return (logits().softmax(1) + logits().softmax(1).flip(3)).argmax(1)

def windows():
    both = prediction.CoarseWindows(512)
    both.add(scores)
    both.add(scores, flip=True)
    return both.argmax()

calls = {
    "eager loss": train(lambda: F.cross_entropy(logits(), long)),
    "fused loss": train(lambda: ops.interpolate_cross_entropy(scores, target)),
    "fused pixels": train(
        lambda: ops.interpolate_cross_entropy(scores, target, reduction="none").sum()),
    "eager dice": train(lambda: reference_losses.dice_cross_entropy_loss(scores, long)),
    "fused dice": train(lambda: losses.dice_cross_entropy_loss(scores, target)),
    "eager masks": train(lambda: F.binary_cross_entropy_with_logits(logits(), float_masks)),
    "fused masks": train(lambda: losses.sigmoid_cross_entropy(scores, masks)),
    "focal": train(lambda: losses.focal_loss(scores, target)),
    "hardest pixels": train(lambda: losses.ohem_cross_entropy(scores, target)),
    "eager argmax": lambda: score(lambda: logits().argmax(1)),
    "fused argmax": lambda: score(lambda: ops.interpolate_argmax(scores, 512)),
    "fused counts": lambda: score(lambda: ops.interpolate_confusion_matrix(scores, target)),
}
calls |= {
    "eager windows": lambda: score(canvas),
    "fused windows": lambda: score(windows),
    "thresholded masks": lambda: prediction.masks(scores, 512),
    "packed masks": lambda: prediction.masks(scores, 512, packed=True),
}
print(json.dumps({name: peak_on_host(call) for name, call in calls.items()}))
"""


@needs_peaks
def test_at_most_a_sixteenth_of_plain_torch() -> None:
    peak = printed_peaks(PROGRAM)
    full_size = 40 * 512 * 512 * 4
    assert peak["eager loss"] > 2 * full_size
    assert peak["eager argmax"] >= full_size
    assert peak["fused loss"] <= peak["eager loss"] / 16, peak
    assert peak["fused pixels"] <= peak["eager loss"] / 16, peak
    assert peak["fused dice"] <= peak["eager dice"] / 16, peak
    assert peak["fused masks"] <= peak["eager masks"] / 16, peak
    # Some maps as large as the labels: none has the 40 classes.
    for name in ("focal", "hardest pixels"):
        assert peak[name] <= full_size / 4, peak
    assert peak["fused argmax"] <= peak["eager argmax"] / 16, peak
    assert peak["fused counts"] <= peak["eager argmax"] / 16, peak
    assert peak["fused windows"] <= peak["eager windows"] / 10, peak
    # The result and a chunk of 4 MiB with what is made of it.
    assert peak["thresholded masks"] <= full_size / 4 + 3 * 2**22, peak
    assert peak["packed masks"] <= full_size / 32 + 4 * 2**22, peak


# One map of pixel losses is 16 MB, many times what libraries take at their first call.
MAPS = """
import json, torch
from benchmarks.memory import peak_on_host
from fcn_ext import losses

torch.manual_seed(0)
scores = torch.randn(1, 4, 64, 64, requires_grad=True)
target = torch.randint(0, 4, (1, 2048, 2048), dtype=torch.uint8)
masks = torch.randint(0, 2, (1, 4, 1024, 1024), dtype=torch.uint8)
shares = masks.float() * 0.7
weight, of_pixels = torch.rand(4), torch.rand(1, 2048, 2048)

def train(function, target, **options):
    def step():
        loss = function(scores, target, **options)
        return torch.autograd.grad(loss, scores, of_pixels.view(loss.shape) if loss.dim() else None)
    return step

calls = {}
for reduction in ("none", "mean"):
    of = dict(reduction=reduction)
    calls[f"focal, {reduction}"] = train(losses.focal_loss, target, **of)
    calls[f"focal, weighed, {reduction}"] = train(losses.focal_loss, target, alpha=weight, **of)
    calls[f"ohem, {reduction}"] = train(losses.ohem_cross_entropy, target, **of)
of = dict(reduction="pixels")
calls["masks, weighed"] = train(losses.sigmoid_cross_entropy, masks, pos_weight=weight, **of)
calls["shares"] = train(losses.sigmoid_cross_entropy, shares, **of)
calls["shares, weighed"] = train(losses.sigmoid_cross_entropy, shares, pos_weight=weight, **of)
calls["focal masks"] = train(losses.sigmoid_focal_loss, masks, **of)
calls["focal masks, not weighed"] = train(losses.sigmoid_focal_loss, masks, alpha=None, **of)
print(json.dumps({name: peak_on_host(call) for name, call in calls.items()}))
"""


@needs_peaks
def test_losses_of_pixels_take_about_three_maps() -> None:
    """With their backward pass: they keep one, and make no others than one step of either needs."""
    maps = {name: peak / 2**24 for name, peak in printed_peaks(MAPS).items()}
    assert {name: count for name, count in maps.items() if count > 3.6} == {}


# Room for results and tables, but not for what a thread works with, some KB per class.
WITHOUT_SCRATCH = """
import resource, torch
from fcn_ext import ops

threads, name = {threads}, "{name}"
torch.set_num_threads(threads)
scores, target = torch.zeros(2, 100000, 6, 6), torch.zeros(2, 12, 12, dtype=torch.int64)
wide = torch.zeros(2, 1000000, 1, 8).contiguous(memory_format=torch.channels_last)
ops.interpolate(torch.zeros(8, 64, 32, 32), 64)  # threads have their stacks
calls = dict(
    cross_entropy=lambda: ops.cross_entropy(scores, target),
    region_sums=lambda: ops.region_sums(scores, target),
    interpolate=lambda: ops.interpolate(wide, 1),
)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (4096 * pages + (48 << 20),) * 2)
calls[name]()
"""


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="no /proc that tells what a process has"
)
def test_too_little_memory_for_a_thread_says_so(tmp_path: Path) -> None:
    """An error of one of torch's threads arrives as it is."""
    programs = {
        f"{name} by {threads}": WITHOUT_SCRATCH.format(threads=threads, name=name)
        for name in ("cross_entropy", "region_sums", "interpolate")
        for threads in (1, 2)
    }
    message = "RuntimeError: out of memory? No scratch of "
    for name, end in run_each(programs, tmp_path).items():
        assert end.err.splitlines()[-1].startswith(message), (name, end)
