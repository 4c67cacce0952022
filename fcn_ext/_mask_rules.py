"""Rules for targets that are masks; those for label maps are in :mod:`fcn_ext._rules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._arguments import number_text
from fcn_ext._rules import (
    _FLOATING,
    _LABELS,
    _differ,
    _shape,
    _text,
    accumulate_dtype,
    broken,
    check_forward,
    check_map,
)

# Columns of sigmoid_sums (csrc/sigmoid_sums/sigmoid_sums.h), and their number. A loss has two: the
# one named here for pixels whose target is one, and the next for those whose target is zero.
CROSS_ENTROPY, PRESENT, COUNT, PROBABILITY, OVERLAP, FOCAL = 0, 2, 3, 4, 5, 6
SIGMOID_SUMS = 8


def check_sigmoid_sums(input: Tensor, target: Tensor, numbers: Sequence[Any], gamma: Any) -> None:
    check_map(input, "input")
    if target.dtype not in (torch.bool, *_LABELS, *_FLOATING):
        raise ValueError(
            "target must be bool, uint8, int16, int32, int64, float32, float64, float16 or "
            f"bfloat16, got {_text(target.dtype)}"
        )
    if target.dim() != 4:
        raise ValueError(f"target must have shape (N, Q, H, W), got {_shape(target)}")
    if _differ(target.shape[:2], input.shape[:2]):
        raise ValueError(
            f"target must have the N and Q of input, ({input.shape[0]}, {input.shape[1]}), "
            f"got {_shape(target)}"
        )
    if any(broken(size < 1) for size in target.shape[2:]):
        raise ValueError(f"target must have at least one row and one column, got {_shape(target)}")
    check_forward(input, numbers, target.shape[2], target.shape[3], "the size of target")
    if gamma is None:
        return
    if not isinstance(gamma, torch.SymFloat) and not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {number_text(gamma)}")
    if target.dtype in _FLOATING:
        raise ValueError(f"target must be bool or integers with gamma, got {_text(target.dtype)}")


def check_sum_gradient(grad_output: Tensor, input: Tensor) -> None:
    if grad_output.dim() != 3 or _differ(grad_output.shape, (*input.shape[:2], SIGMOID_SUMS)):
        raise ValueError(
            f"grad_output must have shape (N, Q, 8) = ({input.shape[0]}, {input.shape[1]}, 8), "
            f"got {_shape(grad_output)}"
        )
    if grad_output.dtype != accumulate_dtype(input):
        raise ValueError(
            f"grad_output must be {_text(accumulate_dtype(input))}, got {_text(grad_output.dtype)}"
        )


def check_sum_weight(weight: Tensor, input: Tensor) -> None:
    if weight.dim() != 2 or _differ(weight.shape, (input.shape[1], SIGMOID_SUMS)):
        raise ValueError(
            f"weight must have shape (Q, 8) = ({input.shape[1]}, 8), got {_shape(weight)}"
        )
    if weight.dtype != accumulate_dtype(input):
        raise ValueError(
            f"weight must be {_text(accumulate_dtype(input))}, got {_text(weight.dtype)}"
        )
