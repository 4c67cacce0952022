"""Rules for the geometries and maps of arguments, in the same words as in csrc.

The operators check their arguments in C++ (``csrc/*/*_checks.h``). If they are only traced, or run
on meta tensors, no C++ is called, and the same rules are checked here, in the same order and words.
``tests/ops/test_rules.py`` breaks every rule in both ways and compares the messages.

The rules for label maps are in :mod:`fcn_ext._label_rules`, those for masks in
:mod:`fcn_ext._mask_rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._line import resize_line

# Sizes, strides and offsets stay below this, so that products of two of them fit in 64 bits
# (csrc/common/check.h).
LARGEST_SIZE = 2**30

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def broken(condition: Any) -> bool:
    """Whether ``condition``, which a rule forbids, holds.

    Traced sizes are compared by their example values, without a guard, so that the graph does not
    depend on what the kernel checks again whenever it runs. In torch.jit.trace sizes are tensors.
    """
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, Tensor):
        return bool(condition)
    node = condition.node
    return bool(node.hint) if node.has_hint() else False


def accumulate_dtype(map: Tensor) -> torch.dtype:
    """The dtype of sums over ``map``, and of losses and probabilities."""
    return torch.float64 if map.dtype == torch.float64 else torch.float32


def check_accumulated(tensor: Tensor, name: str, map: Tensor) -> None:
    """A tensor beside ``map`` has the dtype that it is accumulated in."""
    if tensor.dtype != accumulate_dtype(map):
        raise ValueError(
            f"{name} must be {name_of(accumulate_dtype(map))}, got {name_of(tensor.dtype)}"
        )


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shape_of(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def differ(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return any(broken(a != b) for a, b in zip(first, second, strict=True))


# --------------------------------------------------------------------------- geometries


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


def check_size(size: Sequence[Any], name: str) -> None:
    height, width = size
    if any(broken(extent < 1) or broken(extent > LARGEST_SIZE) for extent in size):
        raise ValueError(f"{name} must be in [1, 2**30], got ({height}, {width})")


def check_geometry(numbers: Sequence[Any]) -> None:
    if len(numbers) not in (4, 1, 5, 9):
        raise ValueError(
            "geometry must be (stride, kernel_size, offset_y, offset_x), (align_corners,) or "
            "(align_corners, height, width, offset_y, offset_x), got "
            f"{len(numbers)} numbers"
        )
    if len(numbers) == 4:
        check_deconvolution(*numbers[:2])
        check_offset(*numbers[2:])
    if len(numbers) >= 5:
        check_size(numbers[1:3], "uncropped_size")
        check_offset(*numbers[3:5])
    if len(numbers) == 9:
        check_size(numbers[5:7], "the uncropped input")
        check_offset(*numbers[7:9])


def resize_numbers(align_corners: bool, crop: Sequence[Any] | None) -> tuple[Any, ...]:
    """The numbers of a Resize, whose crop, if any, is given apart."""
    if crop is None:
        return (int(align_corners),)
    if len(crop) not in (4, 8):
        raise ValueError(
            f"crop must be (height, width, offset_y, offset_x), got {len(crop)} numbers"
        )
    return (int(align_corners), *crop)


def check_axes(
    numbers: Sequence[Any], input_size: Sequence[Any], output_size: Sequence[Any], name: str
) -> None:
    """``name`` is the caller's argument that gives the size of the output."""
    if len(numbers) != 4:
        check_size(output_size, name)
        if len(numbers) > 1:
            _check_crops(numbers, input_size, output_size, name)
        return
    stride, kernel_size, *offsets = numbers
    axes = zip(("height", "width"), offsets, input_size, output_size, strict=True)
    for axis, offset, nodes, outputs in axes:
        full = (nodes - 1) * stride + kernel_size
        if broken(full > LARGEST_SIZE):
            raise ValueError(
                f"stride must keep the upsampled {axis} at most 2**30, got {stride} for {nodes}"
            )
        if broken(offset >= full):
            raise ValueError(f"offset must be below the upsampled {axis} {full}, got {offset}")
        if broken(outputs < 1):
            raise ValueError(f"{name} must be >= 1, got {outputs} along the {axis}")
        if broken(outputs > full - offset):
            raise ValueError(
                f"offset + {name} must be at most the upsampled {axis} {full}, got "
                f"{offset} + {outputs}"
            )


def _check_crops(
    numbers: Sequence[Any], input_size: Sequence[Any], output_size: Sequence[Any], name: str
) -> None:
    uncropped, offsets = numbers[1:3], numbers[3:5]
    nodes, firsts = (numbers[5:7], numbers[7:9]) if len(numbers) == 9 else (input_size, (0, 0))
    axes = zip(
        *(("height", "width"), uncropped, offsets, output_size, nodes, firsts, input_size),
        strict=True,
    )
    for axis, full, offset, outputs, of_nodes, first, held in axes:
        if broken(outputs > full - offset):
            raise ValueError(
                f"offset + {name} must be at most the uncropped {axis} {full}, got "
                f"{offset} + {outputs}"
            )
        if broken(held > of_nodes - first):
            raise ValueError(
                f"input must be a window of {of_nodes} nodes along the {axis}, got {held} from "
                f"{first} on"
            )
        if len(numbers) == 9:
            line = resize_line(of_nodes, full, bool(numbers[0]))
            begin, end = line.nodes_read(offset, offset + outputs)
            if broken(begin < first) or broken(end > first + held):
                raise ValueError(
                    f"input must hold all nodes that the output reads along the {axis}, got {held} "
                    f"from {first} on"
                )


# --------------------------------------------------------------------------- maps


def check_map(map: Tensor, name: str, *, spatial: bool = True) -> None:
    if map.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {shape_of(map)}")
    if map.dtype not in FLOATING:
        raise ValueError(
            f"{name} must be float32, float64, float16 or bfloat16, got {name_of(map.dtype)}"
        )
    if spatial and any(broken(size < 1) for size in map.shape[2:]):
        raise ValueError(f"{name} must have at least one row and one column, got {shape_of(map)}")
    if any(broken(size > LARGEST_SIZE) for size in map.shape[2:]):
        raise ValueError(f"{name} must have at most 2**30 rows and columns, got {shape_of(map)}")


def check_forward(
    input: Tensor, numbers: Sequence[Any], height: Any, width: Any, name: str
) -> None:
    check_geometry(numbers)
    check_map(input, "input")
    check_axes(numbers, input.shape[2:], (height, width), name)


def check_backward(grad_output: Tensor, numbers: Sequence[Any], height: Any, width: Any) -> None:
    check_geometry(numbers)
    check_map(grad_output, "grad_output")
    check_size((height, width), "input size")
    check_axes(numbers, (height, width), grad_output.shape[2:], "the size of grad_output")


def check_fuse_skip(
    coarse: Tensor, skip: Tensor, offset_y: Any, offset_x: Any, stride: Any
) -> None:
    check_map(coarse, "coarse")
    check_map(skip, "skip")
    if coarse.dtype != skip.dtype:
        raise ValueError(
            "coarse and skip must have the same dtype, got "
            f"{name_of(coarse.dtype)} and {name_of(skip.dtype)}"
        )
    if differ(coarse.shape[:2], skip.shape[:2]):
        raise ValueError(
            f"coarse and skip must agree in N and C, got {shape_of(coarse)} and {shape_of(skip)}"
        )
    if broken(stride < 1) or broken(stride > LARGEST_SIZE):
        raise ValueError(f"stride must be in [1, 2**30], got {stride}")
    check_offset(offset_y, offset_x)
    kernel_size = 2 * stride if stride > 1 else 1
    height, width = ((size - 1) * stride + kernel_size for size in coarse.shape[2:])
    if broken(height + offset_y > skip.shape[2]) or broken(width + offset_x > skip.shape[3]):
        raise ValueError(
            f"skip must hold the upsampled size ({height}, {width}) at offset ({offset_y}, "
            f"{offset_x}), got {shape_of(skip)}"
        )
    check_axes((stride, kernel_size, 0, 0), coarse.shape[2:], (height, width), "size")
