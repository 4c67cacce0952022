"""Rules for targets that are masks, as :mod:`fcn_ext._label_rules` has those for label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._arguments import number_text
from fcn_ext._label_rules import LABELS
from fcn_ext._rules import (
    FLOATING,
    broken,
    check_accumulated,
    check_forward,
    check_map,
    differ,
    name_of,
    shape_of,
)

# Columns of sigmoid_sums (csrc/sigmoid_sums/sigmoid_sums.h), and their number. A loss has two: the
# one named here for pixels whose target is one, and the next for those whose target is zero.
CROSS_ENTROPY, PRESENT, COUNT, PROBABILITY, OVERLAP, FOCAL = 0, 2, 3, 4, 5, 6
SIGMOID_SUMS = 8


def check_sigmoid_sums(input: Tensor, target: Tensor, numbers: Sequence[Any], gamma: Any) -> None:
    check_map(input, "input")
    if target.dtype not in (torch.bool, *LABELS, *FLOATING):
        raise ValueError(
            "target must be bool, uint8, int16, int32, int64, float32, float64, float16 or "
            f"bfloat16, got {name_of(target.dtype)}"
        )
    if target.dim() != 4:
        raise ValueError(f"target must have shape (N, Q, H, W), got {shape_of(target)}")
    if differ(target.shape[:2], input.shape[:2]):
        raise ValueError(
            f"target must have the N and Q of input, ({input.shape[0]}, {input.shape[1]}), "
            f"got {shape_of(target)}"
        )
    if any(broken(size < 1) for size in target.shape[2:]):
        raise ValueError(
            f"target must have at least one row and one column, got {shape_of(target)}"
        )
    check_forward(input, numbers, target.shape[2], target.shape[3], "the size of target")
    if gamma is None:
        return
    if not isinstance(gamma, torch.SymFloat) and not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {number_text(gamma)}")
    if target.dtype in FLOATING:
        raise ValueError(f"target must be bool or integers with gamma, got {name_of(target.dtype)}")


def check_sum_gradient(grad_output: Tensor, input: Tensor) -> None:
    if grad_output.dim() != 3 or differ(grad_output.shape, (*input.shape[:2], SIGMOID_SUMS)):
        raise ValueError(
            f"grad_output must have shape (N, Q, 8) = ({input.shape[0]}, {input.shape[1]}, 8), "
            f"got {shape_of(grad_output)}"
        )
    check_accumulated(grad_output, "grad_output", input)


def check_sum_weight(weight: Tensor, input: Tensor) -> None:
    if weight.dim() != 2 or differ(weight.shape, (input.shape[1], SIGMOID_SUMS)):
        raise ValueError(
            f"weight must have shape (Q, 8) = ({input.shape[1]}, 8), got {shape_of(weight)}"
        )
    check_accumulated(weight, "weight", input)
