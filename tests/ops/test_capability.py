"""Each copy of the CPU kernels against the reference; a set the machine lacks falls back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forked_programs import run_each

MAPS = """
import torch
from fcn_ext import ops, reference
from tests.ops.contract import TOLERANCE, channels_last, contiguous
from tests.ops.test_confusion_matrix import test_many_mixed_pixels as mixed_pixels
from tests.ops.test_interpolate import TestInterpolate
from tests.ops.test_upsample import TestUpsample
from tests.ops.test_wide_maps import POINTS, test_gradient_of_wide_rows as wide_rows
from tests.ops.test_wide_maps import test_gradient_reaches_what_the_pixel_reads as one_pixel

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
logits, target = torch.randn(2, 21, 60, 70), torch.randint(0, 21, (2, 60, 70))
target[torch.rand(target.shape) < 0.1] = 255
for dtype in TOLERANCE:
    given = (logits.to(dtype), target, 21)
    assert torch.equal(ops.confusion_matrix(*given), reference.confusion_matrix(*given)[0])
"""
HEADS = """
import torch
from fcn_ext import ops
from tests.ops.contract import channels_last, contiguous
from tests.ops.heads import CASES, trained_like
from tests.ops.test_argmax import assert_matches as assert_argmax
from tests.ops.losses import assert_matches as assert_loss
from tests.ops.test_cross_entropy_hits import assert_hits
from tests.ops.test_head_confusion_matrix import assert_counts

weight = torch.linspace(0, 2, 37)
kinds = (
    (torch.float32, contiguous),
    (torch.bfloat16, channels_last),
    (torch.float16, contiguous),
    (torch.float64, channels_last),
)
for case in CASES[::2]:
    target = case.labels(2, 37).to(torch.uint8)
    for dtype, layout in kinds:
        scores = layout(case.scores(2, 37, dtype))
        likely = layout(trained_like(case, 2, 37, dtype))
        assert_loss(case, scores, target, weight=weight, label_smoothing=0.1)
        for given in (scores, likely):
            assert_argmax(case, given)
            assert_counts(case, given, target)
            assert_hits(case, given, target)
            for labels in (case.head(ops, "argmax", given), target * 0 + 3):
                assert_hits(case, given, labels)
"""
# Subnormal float16 scores, where those of float32 are zero.
FLUSHED = """
import torch
from fcn_ext import ops

small = (torch.randint(-1023, 1024, (2, 18, 7, 19)) * 2.0**-24).half()
target = torch.randint(0, 18, (2, 7, 19))
masks = torch.rand(2, 18, 14, 38).mul(2.0**-15).half()

def results():
    for scores in (small, small.contiguous(memory_format=torch.channels_last)):
        for size in ((14, 38), (10, 23), (3, 5)):
            leaf = scores.clone().requires_grad_()
            full = ops.interpolate(leaf, size)
            yield full.detach()
            yield torch.autograd.grad(full, leaf, full.detach())[0]
            yield ops.argmax(scores, size)
        yield ops.confusion_matrix(scores, target, 18)
        yield ops.sigmoid_sums(scores.float() * 2.0**14, masks)

before = list(results())
torch.set_flush_denormal(True)
after = list(results())
torch.set_flush_denormal(False)
for found, expected in zip(after, before, strict=True):
    assert expected.any()
    assert torch.equal(found, expected)
"""
TELL = """
from fcn_ext import numpy
print(numpy.build_info()["cpu_capability"])
"""


PROGRAMS = {"maps": MAPS + TELL, "heads": HEADS + TELL, "flushed": FLUSHED + TELL}


@pytest.mark.parametrize("capability", ["plain", "avx2", "avx512"])
def test_every_instruction_set_agrees(capability: str, tmp_path: Path) -> None:
    given = {"FCN_EXT_CPU_CAPABILITY": capability, "PYTHONPATH": str(Path(__file__).parent)}
    for name, end in run_each(PROGRAMS, tmp_path, **given).items():
        assert end.code == 0, (name, end)
        assert end.out.strip() in ("plain", "avx2", "avx512")
        assert capability != "plain" or end.out.strip() == "plain"
