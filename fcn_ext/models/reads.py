"""Which cells of its input an operation of torch reads: the table behind receptive fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..geometry import default_kernel_size
from .steps import (
    Step,
    adaptive,
    both,
    everything,
    mirrored,
    repeated,
    resized,
    shifted,
    stretched,
    transposed,
    unmoved,
    window,
)

__all__ = ["read_by"]

Steps = tuple[Step, Step]


def read_by(
    operation: Any, arguments: Sequence[Any], options: dict[str, Any], result: Tensor
) -> list[tuple[Tensor, Steps]]:
    """The tensors that the ``result`` of an operation was made from, with a step for rows and one
    for columns.

    Rows and columns are the last two axes of a tensor.
    """
    name = operation.name().split(".")[0]
    given = {
        **{a.name: a.default_value for a in operation._schema.arguments if a.has_default_value()},
        **dict(zip((a.name for a in operation._schema.arguments), arguments, strict=False)),
        **options,
    }
    rule = _RULES.get(name)
    if rule is not None:
        found: list[tuple[Tensor, Steps]] | None = rule(given, result)
        if found is not None:
            return found
    tensors = _tensors(given.values())
    if torch.Tag.pointwise in operation.tags:
        return [(tensor, _pointwise(tensor, result)) for tensor in tensors]
    return [(tensor, (everything, everything)) for tensor in tensors]


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _pointwise(tensor: Tensor, result: Tensor) -> Steps:
    first, second = (
        unmoved if _size(tensor, axis) == _size(result, axis) else stretched for axis in (-2, -1)
    )
    return first, second


def _size(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] if tensor.dim() >= -axis else 1


# The rules. Each takes the arguments by name; one that returns None leaves the call to the defaults
# in `read_by`.


def _convolution(given: dict[str, Any], result: Tensor) -> Any:
    make = transposed if given["transposed"] else window
    numbers = (given["stride"], given["padding"], given["dilation"])
    kernels = given["weight"].shape[2:]
    steps = [make(*each) for each in zip(both(list(kernels)), *map(both, numbers), strict=True)]
    return [(given["input"], tuple(steps))] if len(kernels) > 1 else None


def _pooling(given: dict[str, Any], result: Tensor) -> Any:
    kernels = both(given["kernel_size"])
    strides = both(given["stride"]) if given["stride"] else kernels
    numbers = (both(given["padding"]), both(given.get("dilation", 1)))
    steps = [
        window(*each) if each != (1, 1, 0, 1) else unmoved  # axes such as channels
        for each in zip(kernels, strides, *numbers, strict=True)
    ]
    return [(given["self"], tuple(steps))]


def _adaptive_pooling(given: dict[str, Any], result: Tensor) -> Any:
    input = given["self"]
    return [(input, tuple(adaptive(input.shape[a], result.shape[a]) for a in (-2, -1)))]


def _padding(make: Callable[[int], Step]) -> Callable[[dict[str, Any], Tensor], Any]:
    def rule(given: dict[str, Any], result: Tensor) -> Any:
        numbers: list[int] = [*given.get("pad", given.get("padding", ())), 0, 0]
        left, top = numbers[0], numbers[2]
        return [(given["self"], (_or_unmoved(make, top), _or_unmoved(make, left)))]

    return rule


def _or_unmoved(make: Callable[[int], Step], padding: int) -> Step:
    return make(padding) if padding else unmoved


def _slice(given: dict[str, Any], result: Tensor) -> Any:
    input = given["self"]
    axis, start = given["dim"] % input.dim(), given["start"] or 0
    start = max(0, start + input.shape[axis] if start < 0 else start)
    steps = [
        shifted(-start, given["step"]) if axis == input.dim() + place else unmoved
        for place in (-2, -1)
    ]
    return [(input, tuple(steps))]


def _view(given: dict[str, Any], result: Tensor) -> Any:
    """Changes of shape that leave the last two axes as they are."""
    input = given["self"]
    kept = input.dim() > 2 < result.dim() and input.shape[-2:] == result.shape[-2:]
    return [(input, (unmoved, unmoved))] if kept and input.numel() == result.numel() else None


def _along(key: str) -> Callable[[dict[str, Any], Tensor], Any]:
    """Operations along one axis, which is not rows or columns."""

    def rule(given: dict[str, Any], result: Tensor) -> Any:
        inputs = _tensors([given[key]])
        if any(t.dim() < 3 or given["dim"] % t.dim() >= t.dim() - 2 for t in inputs):
            return None
        return [(tensor, (unmoved, unmoved)) for tensor in inputs]

    return rule


def _alone(key: str) -> Callable[[dict[str, Any], Tensor], Any]:
    """Operations that see one element, or one place, at a time."""
    return lambda given, result: [(given[key], (unmoved, unmoved))]


def _batch_norm(given: dict[str, Any], result: Tensor) -> Any:
    """By the statistics of another time, unless ``training`` is set: so are layers that keep none,
    and normalization of instances."""
    return None if given["training"] else [(given["input"], (unmoved, unmoved))]


def _interpolation(given: dict[str, Any], result: Tensor) -> Any:
    input = given["self"] if "self" in given else given["input"]
    corners = given.get("align_corners")
    scales = given.get("scales_h"), given.get("scales_w")
    crop = given.get("crop") or (*result.shape[-2:], 0, 0)
    steps = [
        resized(nodes, new, bool(corners), scale, corners is None, first)
        for nodes, new, scale, first in zip(
            input.shape[-2:], crop[:2], scales, crop[2:4], strict=True
        )
    ]
    return [(input, tuple(steps))]


def _upsample(given: dict[str, Any], result: Tensor) -> Any:
    numbers = given["kernel_size"], given["stride"]
    offsets = given["offset_y"], given["offset_x"]
    return [(given["input"], tuple(transposed(*numbers, offset, 1) for offset in offsets))]


def _fuse_skip(given: dict[str, Any], result: Tensor) -> Any:
    stride = given["stride"]
    step = transposed(default_kernel_size(stride), stride, 0, 1)
    crop = shifted(-given["offset_y"]), shifted(-given["offset_x"])
    return [(given["coarse"], (step, step)), (given["skip"], crop)]


_RULES: dict[str, Callable[[dict[str, Any], Tensor], Any]] = {
    "aten::convolution": _convolution,
    "aten::max_pool2d_with_indices": _pooling,
    "aten::avg_pool2d": _pooling,
    "aten::avg_pool3d": _pooling,
    "aten::_adaptive_avg_pool2d": _adaptive_pooling,
    "aten::adaptive_max_pool2d": _adaptive_pooling,
    "aten::upsample_bilinear2d": _interpolation,
    "aten::upsample_nearest2d": _interpolation,
    "aten::constant_pad_nd": _padding(shifted),
    "aten::reflection_pad2d": _padding(mirrored),
    "aten::replication_pad2d": _padding(repeated),
    "aten::slice": _slice,
    "aten::cat": _along("tensors"),
    "aten::split": _along("self"),
    "aten::split_with_sizes": _along("self"),
    "aten::select": _along("self"),
    "aten::_softmax": _along("self"),
    "aten::_log_softmax": _along("self"),
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _alone("input"),
    "aten::native_dropout": _alone("input"),
    "aten::detach": _alone("self"),
    "aten::alias": _alone("self"),
    **dict.fromkeys(
        [
            *("aten::view", "aten::_unsafe_view", "aten::squeeze", "aten::unsqueeze"),
            *("aten::clone", "aten::_to_copy"),
        ],
        _view,
    ),
    "fcn_ext::upsample": _upsample,
    "fcn_ext::interpolate": _interpolation,
    "fcn_ext::fuse_skip": _fuse_skip,
}
