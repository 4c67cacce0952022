"""Counts by the confusion matrix's CUDA kernels, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fcn_ext import reference

if TYPE_CHECKING:
    from .library import Emulation


def added(num_classes: int, count: Callable[[Tensor, Tensor], None]) -> tuple[Tensor, int]:
    """What `count` adds to a matrix and to a number of invalid pixels."""
    matrix, invalid = torch.full((num_classes, num_classes), 5), torch.full((), 7)
    count(matrix, invalid)
    return matrix - 5, int(invalid) - 7


def check_counts(
    counts: tuple[Tensor, int],
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int,
) -> None:
    matrix, invalid = counts
    expected, expected_invalid = reference.confusion_matrix(
        prediction, target, num_classes, ignore_index=ignore_index
    )
    assert invalid == expected_invalid
    assert torch.equal(matrix, expected)


def count(
    emulation: Emulation,
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> tuple[Tensor, int]:
    """Counts from labels, or from logits of `num_classes` classes."""
    predicted = (prediction, prediction.dtype)
    targets = (target, target.dtype, *target.stride(), *target.shape)

    def call(matrix: Tensor, invalid: Tensor) -> None:
        results = (ignore_index, matrix, invalid)
        if prediction.dim() == 4:
            name, scores = "confusion_matrix_logits", (num_classes, *prediction.stride())
            emulation.call(name, *predicted, *scores, *targets, *results)
        else:
            name, strides = "confusion_matrix_labels", prediction.stride()
            emulation.call(name, *predicted, *strides, *targets, num_classes, *results)

    return added(num_classes, call)


def check(
    emulation: Emulation,
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> None:
    counts = count(emulation, prediction, target, num_classes, ignore_index)
    check_counts(counts, prediction, target, num_classes, ignore_index)


def random_labels(
    generator: torch.Generator, shape: tuple[int, ...], high: int, dtype: torch.dtype, run: int
) -> Tensor:
    """Labels in [0, high), in runs of about ``run`` pixels."""
    pixels = torch.Size(shape).numel()
    starts = torch.rand(pixels, generator=generator) * run < 1
    values = torch.randint(0, high, (pixels,), generator=generator)
    return values[starts.cumsum(0).clamp(max=pixels - 1)].to(dtype).reshape(shape)
