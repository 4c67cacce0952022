"""Rules for the numbers, shapes and dtypes of arguments, in the same words as in csrc.

The operators check their arguments in C++ (``csrc/*/*_checks.h``). If they are only traced, or run
on meta tensors, no C++ is called, and the same rules are checked here, in the same order and words.
``tests/ops/test_rules.py`` breaks every rule in both ways and compares the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._arguments import number_text

__all__ = ["accumulate_dtype", "broken", "check_deconvolution", "check_offset"]

# Sizes, strides and offsets stay below this, so that products of two of them fit in 64 bits
# (csrc/common/check.h).
LARGEST_SIZE = 2**30
# Bins of a confusion matrix are counted in 32 bits (csrc/confusion_matrix).
MOST_CLASSES = 32768

_FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_LABELS = {torch.uint8: 2**8, torch.int16: 2**15, torch.int32: 2**31, torch.int64: 2**62}


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


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _differ(first: Sequence[Any], second: Sequence[Any]) -> bool:
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


def check_geometry(numbers: Sequence[Any]) -> None:
    if len(numbers) not in (4, 1):
        raise ValueError(
            "geometry must be (stride, kernel_size, offset_y, offset_x) or (align_corners,), got "
            f"{len(numbers)} numbers"
        )
    if len(numbers) == 4:
        check_deconvolution(*numbers[:2])
        check_offset(*numbers[2:])


def check_axes(
    numbers: Sequence[Any], input_size: Sequence[Any], output_size: Sequence[Any], name: str
) -> None:
    """``name`` is the caller's argument that gives the size of the output."""
    if len(numbers) == 1:
        if any(broken(size < 1) or broken(size > LARGEST_SIZE) for size in output_size):
            height, width = output_size
            raise ValueError(f"{name} must be in [1, 2**30], got ({height}, {width})")
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


# --------------------------------------------------------------------------- maps


def check_map(map: Tensor, name: str, *, spatial: bool = True) -> None:
    if map.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {_shape(map)}")
    if map.dtype not in _FLOATING:
        raise ValueError(
            f"{name} must be float32, float64, float16 or bfloat16, got {_text(map.dtype)}"
        )
    if spatial and any(broken(size < 1) for size in map.shape[2:]):
        raise ValueError(f"{name} must have at least one row and one column, got {_shape(map)}")
    if any(broken(size > LARGEST_SIZE) for size in map.shape[2:]):
        raise ValueError(f"{name} must have at most 2**30 rows and columns, got {_shape(map)}")


def check_forward(
    input: Tensor, numbers: Sequence[Any], height: Any, width: Any, name: str
) -> None:
    check_geometry(numbers)
    check_map(input, "input")
    check_axes(numbers, input.shape[2:], (height, width), name)


def check_backward(grad_output: Tensor, numbers: Sequence[Any], height: Any, width: Any) -> None:
    check_geometry(numbers)
    check_map(grad_output, "grad_output")
    if any(broken(size < 1) or broken(size > LARGEST_SIZE) for size in (height, width)):
        raise ValueError(f"input size must be in [1, 2**30], got ({height}, {width})")
    check_axes(numbers, (height, width), grad_output.shape[2:], "the size of grad_output")


def check_fuse_skip(
    coarse: Tensor, skip: Tensor, offset_y: Any, offset_x: Any, stride: Any
) -> None:
    check_map(coarse, "coarse")
    check_map(skip, "skip")
    if coarse.dtype != skip.dtype:
        raise ValueError(
            "coarse and skip must have the same dtype, got "
            f"{_text(coarse.dtype)} and {_text(skip.dtype)}"
        )
    if _differ(coarse.shape[:2], skip.shape[:2]):
        raise ValueError(
            f"coarse and skip must agree in N and C, got {_shape(coarse)} and {_shape(skip)}"
        )
    if broken(stride < 1) or broken(stride > LARGEST_SIZE):
        raise ValueError(f"stride must be in [1, 2**30], got {stride}")
    check_offset(offset_y, offset_x)
    kernel_size = 2 * stride if stride > 1 else 1
    height, width = ((size - 1) * stride + kernel_size for size in coarse.shape[2:])
    if broken(height + offset_y > skip.shape[2]) or broken(width + offset_x > skip.shape[3]):
        raise ValueError(
            f"skip must hold the upsampled size ({height}, {width}) at offset ({offset_y}, "
            f"{offset_x}), got {_shape(skip)}"
        )
    check_axes((stride, kernel_size, 0, 0), coarse.shape[2:], (height, width), "size")


# --------------------------------------------------------------------------- labels and classes


def check_label_map(labels: Tensor, name: str) -> None:
    if labels.dtype not in _LABELS:
        raise ValueError(
            f"{name} labels must be uint8, int16, int32 or int64, got {_text(labels.dtype)}"
        )
    if labels.dim() != 3:
        raise ValueError(f"{name} labels must have shape (N, H, W), got {_shape(labels)}")


def _check_classes(input: Tensor, name: str = "input") -> None:
    if broken(input.shape[1] < 1):
        raise ValueError(f"{name} must have at least one channel (class), got {_shape(input)}")


def check_target(
    input: Tensor, target: Tensor, numbers: Sequence[Any], name: str = "input"
) -> None:
    """``name`` is the caller's name for ``input``."""
    check_map(input, name)
    check_label_map(target, "target")
    _check_classes(input, name)
    if broken(target.shape[0] != input.shape[0]):
        raise ValueError(
            f"target must have the batch size of {name}, {input.shape[0]}, got {_shape(target)}"
        )
    if any(broken(size < 1) for size in target.shape[1:]):
        raise ValueError(f"target must have at least one row and one column, got {_shape(target)}")
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
            f"weight must have shape (num_classes,) = ({input.shape[1]},), got {_shape(weight)}"
        )
    if weight.dtype != accumulate_dtype(input):
        raise ValueError(
            f"weight must be {_text(accumulate_dtype(input))}, got {_text(weight.dtype)}"
        )


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
            f"{_shape(grad_sums)}"
        )
    if (
        grad_losses.dim() != 2
        or grad_losses.shape[0] not in (0, 2)
        or broken(grad_losses.shape[1] != images)
    ):
        raise ValueError(
            f"grad_losses must have shape (0 or 2, N) = (0 or 2, {images}), got "
            f"{_shape(grad_losses)}"
        )
    dtype = accumulate_dtype(input)
    for gradient, name in ((grad_sums, "grad_sums"), (grad_losses, "grad_losses")):
        if gradient.dtype != dtype:
            raise ValueError(f"{name} must be {_text(dtype)}, got {_text(gradient.dtype)}")


def is_dense(map: Tensor) -> bool:
    """Contiguous or channels_last, without gaps."""
    return map.is_contiguous() or map.is_contiguous(memory_format=torch.channels_last)


def check_scale(gradient: Tensor, factor: Tensor) -> None:
    if gradient.dim() != 4:
        raise ValueError(f"gradient must have shape (N, C, H, W), got {_shape(gradient)}")
    if not is_dense(gradient):
        raise ValueError("gradient must be contiguous or channels_last")
    if gradient.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradient must be float32 or float64, got {_text(gradient.dtype)}")
    if factor.dim() != 0:
        raise ValueError(f"factor must have shape (), got {_shape(factor)}")
    if factor.dtype != gradient.dtype:
        raise ValueError(f"factor must be {_text(gradient.dtype)}, got {_text(factor.dtype)}")


def check_pixel_gradient(grad_output: Tensor, input: Tensor, target: Tensor) -> None:
    if grad_output.dim() != 3 or _differ(grad_output.shape, target.shape):
        raise ValueError(
            f"grad_output must be as large as target {_shape(target)}, got {_shape(grad_output)}"
        )
    if grad_output.dtype != accumulate_dtype(input):
        raise ValueError(
            f"grad_output must be {_text(accumulate_dtype(input))}, got {_text(grad_output.dtype)}"
        )


def check_most_classes(input: Tensor, name: str) -> None:
    if broken(input.shape[1] > MOST_CLASSES):
        raise ValueError(f"{name} must have at most 32768 channels (classes), got {_shape(input)}")


def check_argmax_classes(input: Tensor, name: str) -> None:
    _check_classes(input, name)
    check_most_classes(input, name)


def check_argmax(input: Tensor, dtype: torch.dtype) -> None:
    classes = input.shape[1]
    check_argmax_classes(input, "input")
    if dtype not in _LABELS:
        raise ValueError(f"dtype must be uint8, int16, int32 or int64, got {_text(dtype)}")
    if broken(classes > _LABELS[dtype]):
        raise ValueError(f"dtype must hold num_classes - 1 = {classes - 1}, got {_text(dtype)}")


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
            f"{_text(matrix.dtype)} {_shape(matrix)}"
        )
    if broken(matrix.shape[0] < 1) or broken(matrix.shape[0] > MOST_CLASSES):
        raise ValueError(f"num_classes must be in [1, 32768], got {matrix.shape[0]}")
    if invalid.dtype != torch.int64 or broken(invalid.numel() != 1):
        raise ValueError(
            "invalid must be an int64 tensor with one element, got "
            f"{_text(invalid.dtype)} {_shape(invalid)}"
        )


def check_score_counts(input: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_counts(matrix, invalid)
    if broken(input.shape[1] != matrix.shape[0]):
        raise ValueError(
            f"input must have num_classes = {matrix.shape[0]} channels, got {_shape(input)}"
        )


def check_label_counts(prediction: Tensor, target: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_label_map(prediction, "prediction")
    check_label_map(target, "target")
    if _differ(prediction.shape, target.shape):
        raise ValueError(
            "prediction and target must have the same shape, got "
            f"{_shape(prediction)} and {_shape(target)}"
        )
    check_counts(matrix, invalid)


def check_logit_counts(logits: Tensor, target: Tensor, matrix: Tensor, invalid: Tensor) -> None:
    check_map(logits, "prediction logits", spatial=False)
    check_label_map(target, "target")
    check_counts(matrix, invalid)
    if broken(logits.shape[1] != matrix.shape[0]):
        raise ValueError(
            f"prediction logits must have num_classes = {matrix.shape[0]} channels, got "
            f"{_shape(logits)}"
        )
    pixels = (logits.shape[0], *logits.shape[2:])
    if _differ(pixels, target.shape):
        raise ValueError(f"target must have shape (N, H, W) = {pixels}, got {_shape(target)}")
