"""The rules that numbers and shapes of arguments keep, in the words of csrc.

The operators check their own arguments in C++ (``csrc/**/*_checks.h``). Where they are only traced
or run on meta tensors, nothing of C++ is called: the same rules are then checked here, in the same
order and words. ``tests/ops/test_rules.py`` breaks every rule on both ways and compares.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LARGEST_SIZE", "broken", "check_deconvolution", "check_offset"]

# Sizes, strides and offsets stay below this, so that products of two of them fit in 64 bits
# (csrc/common/check.h).
LARGEST_SIZE = 2**30


def broken(condition: Any) -> bool:
    """Whether ``condition``, a comparison that a rule forbids, holds.

    Of traced sizes the example at hand is looked at, without a guard: a graph is not to be bound
    to what the kernel checks again whenever it runs.
    """
    if isinstance(condition, bool):
        return condition
    node = condition.node
    return bool(node.hint) if node.has_hint() else False


def check_deconvolution(stride: Any, kernel_size: Any) -> None:
    if broken(stride < 1) or broken(stride > LARGEST_SIZE):
        raise ValueError(f"stride must be in [1, 2**30], got {stride}")
    if broken(kernel_size != 2 * stride) and broken(kernel_size != 2 * stride - 1):
        raise ValueError(
            f"kernel_size must be 2 * stride or 2 * stride - 1 = {2 * stride} or "
            f"{2 * stride - 1}, got {kernel_size}"
        )


def check_offset(offset_y: Any, offset_x: Any) -> None:
    if broken(offset_y < 0) or broken(offset_x < 0):
        raise ValueError(f"offset must be >= 0, got ({offset_y}, {offset_x})")
