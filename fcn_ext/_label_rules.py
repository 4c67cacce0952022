"""Rules for label maps, classes and counts, as :mod:`fcn_ext._rules` has those for maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._arguments import number_text
from fcn_ext._rules import (
    accumulate_dtype,
    broken,
    check_accumulated,
    check_forward,
    check_map,
    differ,
    name_of,
    shape_of,
)

# Bins of a confusion matrix are counted in 32 bits (csrc/confusion_matrix).
MOST_CLASSES = 32768
LABELS = {torch.uint8: 2**8, torch.int16: 2**15, torch.int32: 2**31, torch.int64: 2**62}
"""The dtypes of labels, and how many classes each can tell apart."""


def check_label_map(labels: Tensor, name: str) -> None:
    if labels.dtype not in LABELS:
        raise ValueError(
            f"{name} labels must be uint8, int16, int32 or int64, got {name_of(labels.dtype)}"
        )
    if labels.dim() != 3:
        raise ValueError(f"{name} labels must have shape (N, H, W), got {shape_of(labels)}")


def _check_classes(input: Tensor, name: str = "input") -> None:
    if broken(input.shape[1] < 1):
        raise ValueError(f"{name} must have at least one channel (class), got {shape_of(input)}")


def check_target(
    input: Tensor, target: Tensor, numbers: Sequence[Any], name: str = "input"
) -> None:
    """``name`` is the caller's name for ``input``."""
    check_map(input, name)
    check_label_map(target, "target")
    _check_classes(input, name)
    if broken(target.shape[0] != input.shape[0]):
        raise ValueError(
            f"target must have the batch size of {name}, {input.shape[0]}, got {shape_of(target)}"
        )
    if any(broken(size < 1) for size in target.shape[1:]):
        raise ValueError(
            f"target must have at least one row and one column, got {shape_of(target)}"
        )
    _, height, width = target.shape
    check_forward(input, numbers, height, width, "the size of target")


def check_cross_entropy(input: Tensor, weight: Tensor | None, label_smoothing: Any) -> None:
    if not isinstance(label_smoothing, torch.SymFloat) and not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {number_text(label_smoothing)}")
    check_class_weight(input, weight)


def check_class_weight(input: Tensor, weight: Tensor | None) -> None:
    if weight is None:
        return
    if weight.dim() != 1 or broken(weight.shape[0] != input.shape[1]):
        raise ValueError(
            f"weight must have shape (num_classes,) = ({input.shape[1]},), got {shape_of(weight)}"
        )
    check_accumulated(weight, "weight", input)


def check_region_gradients(grad_sums: Tensor, grad_losses: Tensor, input: Tensor) -> None:
    images, classes = input.shape[:2]
    if (
        grad_sums.dim() != 3
        or grad_sums.shape[0] not in (3, 4)
        or broken(grad_sums.shape[1] != images)
        or broken(grad_sums.shape[2] != classes)
    ):
        raise ValueError(
            f"grad_sums must have shape (3 or 4, N, C) = (3 or 4, {images}, {classes}), got "
            f"{shape_of(grad_sums)}"
        )
    if (
        grad_losses.dim() != 2
        or grad_losses.shape[0] not in (0, 2)
        or broken(grad_losses.shape[1] != images)
    ):
        raise ValueError(
            f"grad_losses must have shape (0 or 2, N) = (0 or 2, {images}), got "
            f"{shape_of(grad_losses)}"
        )
    dtype = accumulate_dtype(input)
    for gradient, name in ((grad_sums, "grad_sums"), (grad_losses, "grad_losses")):
        if gradient.dtype != dtype:
            raise ValueError(f"{name} must be {name_of(dtype)}, got {name_of(gradient.dtype)}")


def is_dense(map: Tensor) -> bool:
    """Contiguous or channels_last, without gaps."""
    return map.is_contiguous() or map.is_contiguous(memory_format=torch.channels_last)


def check_scale(gradient: Tensor, factor: Tensor) -> None:
    if gradient.dim() != 4:
        raise ValueError(f"gradient must have shape (N, C, H, W), got {shape_of(gradient)}")
    if not is_dense(gradient):
        raise ValueError("gradient must be contiguous or channels_last")
    if gradient.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradient must be float32 or float64, got {name_of(gradient.dtype)}")
    if factor.dim() != 0:
        raise ValueError(f"factor must have shape (), got {shape_of(factor)}")
    if factor.dtype != gradient.dtype:
        raise ValueError(f"factor must be {name_of(gradient.dtype)}, got {name_of(factor.dtype)}")


def check_pixel_gradient(grad_output: Tensor, input: Tensor, target: Tensor) -> None:
    if grad_output.dim() != 3 or differ(grad_output.shape, target.shape):
        raise ValueError(
            f"grad_output must be as large as target {shape_of(target)}, "
            f"got {shape_of(grad_output)}"
        )
    check_accumulated(grad_output, "grad_output", input)


def check_most_classes(input: Tensor, name: str) -> None:
    if broken(input.shape[1] > MOST_CLASSES):
        raise ValueError(
            f"{name} must have at most 32768 channels (classes), got {shape_of(input)}"
        )


def check_argmax_classes(input: Tensor, name: str) -> None:
    _check_classes(input, name)
    check_most_classes(input, name)


def check_argmax(input: Tensor, dtype: torch.dtype) -> None:
    classes = input.shape[1]
    check_argmax_classes(input, "input")
    if dtype not in LABELS:
        raise ValueError(f"dtype must be uint8, int16, int32 or int64, got {name_of(dtype)}")
    if broken(classes > LABELS[dtype]):
        raise ValueError(f"dtype must hold num_classes - 1 = {classes - 1}, got {name_of(dtype)}")


# --------------------------------------------------------------------------- counts


def check_counts(matrix: Tensor, invalid: Tensor) -> None:
    if (
        matrix.dtype != torch.int64
        or matrix.dim() != 2
        or broken(matrix.shape[0] != matrix.shape[1])
        or not matrix.is_contiguous()
    ):
        raise ValueError(
            "out must be a contiguous int64 matrix (num_classes, num_classes), got "
            f"{name_of(matrix.dtype)} {shape_of(matrix)}"
        )
    if broken(matrix.shape[0] < 1) or broken(matrix.shape[0] > MOST_CLASSES):
        raise ValueError(f"num_classes must be in [1, 32768], got {matrix.shape[0]}")
    if invalid.dtype != torch.int64 or broken(invalid.numel() != 1):
        raise ValueError(
            "invalid must be an int64 tensor with one element, got "
            f"{name_of(invalid.dtype)} {shape_of(invalid)}"
        )


def check_score_counts(input: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_counts(matrix, invalid)
    if broken(input.shape[1] != matrix.shape[0]):
        raise ValueError(
            f"input must have num_classes = {matrix.shape[0]} channels, got {shape_of(input)}"
        )


def check_label_counts(prediction: Tensor, target: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_label_map(prediction, "prediction")
    check_label_map(target, "target")
    if differ(prediction.shape, target.shape):
        raise ValueError(
            "prediction and target must have the same shape, got "
            f"{shape_of(prediction)} and {shape_of(target)}"
        )
    check_counts(matrix, invalid)


def check_logit_counts(logits: Tensor, target: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_map(logits, "prediction logits", spatial=False)
    check_label_map(target, "target")
    check_counts(matrix, invalid)
    if broken(logits.shape[1] != matrix.shape[0]):
        raise ValueError(
            f"prediction logits must have num_classes = {matrix.shape[0]} channels, got "
            f"{shape_of(logits)}"
        )
    pixels = (logits.shape[0], *logits.shape[2:])
    if differ(pixels, target.shape):
        raise ValueError(f"target must have shape (N, H, W) = {pixels}, got {shape_of(target)}")
