"""How far the heads' losses, gradients, labels and counts are from the float64 truth."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.counting import mask_bincount
from benchmarks.exact import (
    dice_and_gradient,
    labels_and_gaps,
    loss_and_gradient,
    sigmoid_loss_and_gradient,
)
from benchmarks.heads import project_argmax
from benchmarks.implementations import Implementation
from benchmarks.workloads import Workload

# Largest relative error of the loss, and largest error of the gradient relative to its largest
# element. This project computes in float32 and rounds the gradient once.
PROMISED = {"float32": (1e-6, 1e-5), "bfloat16": (1e-6, 2**-8 + 1e-5)}
# Peers must be as accurate as their method allows: a sum of millions of pixels may be in float32,
# and half logits and gradients are rounded at full size before they are summed. Beyond that they
# are broken.
ROOM = {"float32": (5e-3, 1e-3), "bfloat16": (2e-2, 0.1)}


class HeadAccuracy:
    """Compares the results of one row; the truth is computed once."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def check(self, implementation: Implementation, result: Any) -> dict[str, Any]:
        """``correct``; for a loss ``loss_error`` and ``max_error`` (of the gradient), both
        relative, and ``wrong_hits`` of its accuracy; for labels ``wrong_labels``; for counts
        ``wrong_counts``. Labels may differ where the two largest float64 logits differ by no more
        than rounding: ``close_calls`` pixels."""
        if self._workload.row.loss:
            return self._loss(implementation, *result)
        labels, gaps = self._labels
        close = gaps <= self._rounding(implementation)
        if self._workload.row.operator.endswith("_argmax"):
            wrong = int(((result.long() != labels) & ~close).sum())
            found = {"wrong_labels": wrong, "close_calls": int(close.sum())}
        else:
            target = self._workload.maps[1]
            close &= target != self._workload.case.ignore_index
            wrong = self._wrong_counts(result, int(close.sum()))
            if implementation.kind == "project":
                own = project_argmax(self._workload, self._workload.maps[0])
                wrong += int((result != mask_bincount(self._workload, own, target)).sum())
            found = {"wrong_counts": wrong, "close_calls": int(close.sum())}
        return found | {"correct": wrong == 0}

    def _loss(
        self, implementation: Implementation, loss: Tensor, gradient: Tensor, *accuracy: Tensor
    ) -> dict[str, Any]:
        true_loss, true_gradient = self._loss_and_gradient
        loss_error = float((loss.double() - true_loss).abs() / true_loss.abs())
        error = (gradient.double() - true_gradient).abs().max() / true_gradient.abs().max()
        allowed = PROMISED if implementation.kind == "project" else ROOM
        most_loss, most = allowed[self._workload.row.variant.dtype]
        # A NaN anywhere is above every tolerance.
        correct = loss_error <= most_loss and float(error) <= most
        found = {"loss_error": loss_error, "max_error": float(error)}
        if self._workload.row.accuracy:
            (share,) = accuracy
            found["wrong_hits"] = self._wrong_hits(implementation, share)
            correct = correct and found["wrong_hits"] == 0
        return found | {"correct": correct}

    def _wrong_hits(self, implementation: Implementation, accuracy: Tensor) -> int:
        """By how many pixels a share of the non-void pixels is off, apart from close calls and its
        own rounding."""
        labels, gaps = self._labels
        target = self._workload.maps[1]
        counts = target != self._workload.case.ignore_index
        close = int(((gaps <= self._rounding(implementation)) & counts).sum())
        right, pixels = int(((labels == target) & counts).sum()), int(counts.sum())
        if not accuracy.isfinite():
            return pixels
        rounding = 2 * torch.finfo(torch.float32).eps * pixels
        off = abs(float(accuracy.double()) * pixels - right) - rounding - close
        return max(0, math.ceil(off - 0.5))

    def _wrong_counts(self, counts: Tensor, close_calls: int) -> int:
        """Pixels counted in the wrong bin, apart from close calls."""
        target = self._workload.maps[1]
        difference = counts - mask_bincount(self._workload, self._labels[0], target)
        moved = (int(difference.abs().sum()) + 1) // 2
        return max(0, moved - close_calls) + abs(int(difference.sum()))

    def _rounding(self, implementation: Implementation) -> float:
        """How far apart two computed logits may be if their float64 values are equal.

        A few units in the last place of the largest score: of float32 for this project; of the
        row's dtype for peers, whose weights also carry the error of a float32 coordinate.
        """
        scores = self._workload.maps[0]
        single = torch.finfo(torch.float32).eps
        if implementation.kind == "project":
            units = 8 * single
        else:
            units = 8 * torch.finfo(scores.dtype).eps + 2 * max(scores.shape[2:]) * single
        return units * float(scores.abs().max())

    @cached_property
    def _loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        row = self._workload.row
        if row.operator.endswith("sigmoid_cross_entropy"):
            return sigmoid_loss_and_gradient(self._workload)
        exact = dice_and_gradient if row.regions else loss_and_gradient
        return exact(self._workload)

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor]:
        return labels_and_gaps(self._workload)
