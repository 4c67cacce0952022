"""Heads over more than 2**31 pixels, where 32-bit arithmetic ends; expanded, so without memory."""

from __future__ import annotations

import math

import torch

from fcn_ext import ops

# Two classes with equal scores: a loss of ln 2 in every pixel, and class 0 wins.
SCORES = torch.ones(()).expand(3, 2, 938, 782)
LABELS = torch.tensor([1], dtype=torch.uint8).expand(3, 30000, 25000)
assert LABELS.numel() > 2**31


def test_loss_of_more_than_2_31_pixels() -> None:
    loss, total_weight, _ = torch.ops.fcn_ext.cross_entropy(
        SCORES, LABELS, (32, 64, 0, 0), None, 255, 0.0, False, False
    )
    assert math.isclose(float(total_weight), LABELS.numel(), rel_tol=1e-7)
    assert math.isclose(float(loss), LABELS.numel() * math.log(2), rel_tol=1e-6)


def test_count_of_more_than_2_31_pixels() -> None:
    counts = ops.upsample_confusion_matrix(SCORES, LABELS, 32)
    assert counts.tolist() == [[0, 0], [LABELS.numel(), 0]]
