"""Which cells of its input an operation reads: the table behind receptive fields.

Along one axis an operation is a :class:`Step`. All operations below treat rows and columns
separately, so two steps say what a cell of the result sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, default_kernel_size

__all__ = ["Step", "everything", "read_by", "unmoved"]


@dataclass(frozen=True, eq=False)
class Step:
    """One axis of an operation.

    Attributes:
        reads: from cells of the result (k,) to the cells of the input (k, taps) that they read;
            those outside of the input are left out afterwards.
        grid: from the input's grid to the result's; None if the result has none.
    """

    reads: Callable[[np.ndarray, int], np.ndarray]
    grid: Callable[[Grid], Grid] | None


# Each element of the result comes from the one at the same position.
unmoved = Step(lambda cells, size: cells[:, None], lambda grid: grid)
# Every element depends on the whole input: means over an image, matrix products, and all operations
# that are not in the table below.
everything = Step(
    lambda cells, size: np.broadcast_to(np.arange(size), (len(cells), size)),
    None,
)
# Every element depends on a single cell, by broadcasting.
_stretched = Step(lambda cells, size: np.zeros((len(cells), 1), dtype=np.int64), None)

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
        unmoved if _size(tensor, axis) == _size(result, axis) else _stretched for axis in (-2, -1)
    )
    return first, second


def _size(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] if tensor.dim() >= -axis else 1


def _window(kernel_size: int, stride: int, padding: int, dilation: int) -> Step:
    """A convolution or a pooling."""
    taps = np.arange(kernel_size) * dilation - padding
    return Step(
        lambda cells, size: cells[:, None] * stride + taps,
        lambda grid: grid.window(kernel_size, stride=stride, padding=padding, dilation=dilation),
    )


def _shifted(padding: int, step: int = 1) -> Step:
    """A padding with a constant, or a crop where ``padding`` is negative; every ``step``-th."""
    return _window(1, step, padding, 1)


def _transposed(kernel_size: int, stride: int, padding: int, dilation: int) -> Step:
    """A transposed convolution; ``padding`` is what it crops."""
    reach = dilation * (kernel_size - 1)
    taps = np.arange(kernel_size) * dilation

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        places = cells[:, None] + padding - taps
        return np.asarray(np.where(places % stride == 0, places // stride, -1))

    def grid(of: Grid) -> Grid:
        return Grid(
            of.scale * stride,
            of.shift * stride + Fraction(reach, 2) - padding,
            of.receptive_field + reach // stride * of.stride,
        )

    return Step(reads, grid)


def _resized(size: int, new: int, align_corners: bool, scale: float | None, nearest: bool) -> Step:
    """An interpolation from ``size`` to ``new`` cells."""
    ratio = Fraction(new, size) if scale is None else Fraction(scale)
    shift = (ratio - 1) / 2
    if align_corners:
        ratio, shift = (Fraction(new - 1, size - 1) if size > 1 < new else Fraction(new)), shift * 0

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        if nearest:
            # In float32 whatever the map's dtype, as torch does: for a cell on the border of two,
            # rounding decides.
            step = np.float32(size) / np.float32(new) if scale is None else np.float32(1 / scale)
            places = np.floor(cells.astype(np.float32) * step)
            return np.asarray(np.minimum(places, size - 1).astype(np.int64)[:, None])
        places = np.clip((cells - float(shift)) / float(ratio), 0, size - 1)
        return np.stack([np.floor(places), np.ceil(places)], 1).astype(np.int64)

    def grid(of: Grid) -> Grid:
        seen = of.receptive_field + (0 if nearest else of.stride)
        return Grid(of.scale * ratio, of.shift * ratio + shift, seen)

    return Step(reads, grid)


def _adaptive(size: int, new: int) -> Step:
    """An adaptive pooling from ``size`` to ``new`` cells."""
    if size % new == 0:
        return _window(size // new, size // new, 0, 1)

    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        first, end = cells * size // new, -(-(cells + 1) * size // new)
        taps = first[:, None] + np.arange((end - first).max(initial=1))
        return np.asarray(np.where(taps < end[:, None], taps, -1))

    return Step(reads, None)


def _mirrored(padding: int) -> Step:
    def reads(cells: np.ndarray, size: int) -> np.ndarray:
        places = np.abs(cells - padding)[:, None]
        return np.asarray(np.minimum(places, 2 * (size - 1) - places))

    return Step(reads, lambda grid: grid.window(1, padding=padding))


def _repeated(padding: int) -> Step:
    return Step(
        lambda cells, size: np.clip(cells - padding, 0, size - 1)[:, None],
        lambda grid: grid.window(1, padding=padding),
    )


def _both(value: Any) -> list[int]:
    """A number for rows and one for columns, of an argument of one, two or three numbers."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return [*numbers, *numbers][-2:] if len(numbers) == 1 else numbers[-2:]


# The rules. Each takes the arguments by name; None leaves an operation to the general ones.


def _convolution(given: dict[str, Any], result: Tensor) -> Any:
    make = _transposed if given["transposed"] else _window
    numbers = (given["stride"], given["padding"], given["dilation"])
    kernels = given["weight"].shape[2:]
    steps = [make(*each) for each in zip(_both(list(kernels)), *map(_both, numbers), strict=True)]
    return [(given["input"], tuple(steps))] if len(kernels) > 1 else None


def _pooling(given: dict[str, Any], result: Tensor) -> Any:
    kernels = _both(given["kernel_size"])
    strides = _both(given["stride"]) if given["stride"] else kernels
    numbers = (_both(given["padding"]), _both(given.get("dilation", 1)))
    steps = [
        _window(*each) if each != (1, 1, 0, 1) else unmoved  # axes such as channels
        for each in zip(kernels, strides, *numbers, strict=True)
    ]
    return [(given["self"], tuple(steps))]


def _adaptive_pooling(given: dict[str, Any], result: Tensor) -> Any:
    input = given["self"]
    return [(input, tuple(_adaptive(input.shape[a], result.shape[a]) for a in (-2, -1)))]


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
        _shifted(-start, given["step"]) if axis == input.dim() + place else unmoved
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


def _interpolation(given: dict[str, Any], result: Tensor) -> Any:
    input = given["self"] if "self" in given else given["input"]
    corners = given.get("align_corners")
    scales = given.get("scales_h"), given.get("scales_w")
    steps = [
        _resized(input.shape[axis], result.shape[axis], bool(corners), scale, corners is None)
        for axis, scale in zip((-2, -1), scales, strict=True)
    ]
    return [(input, tuple(steps))]


def _upsample(given: dict[str, Any], result: Tensor) -> Any:
    numbers = given["kernel_size"], given["stride"]
    offsets = given["offset_y"], given["offset_x"]
    return [(given["input"], tuple(_transposed(*numbers, offset, 1) for offset in offsets))]


def _fuse_skip(given: dict[str, Any], result: Tensor) -> Any:
    stride = given["stride"]
    step = _transposed(default_kernel_size(stride), stride, 0, 1)
    crop = _shifted(-given["offset_y"]), _shifted(-given["offset_x"])
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
    "aten::constant_pad_nd": _padding(_shifted),
    "aten::reflection_pad2d": _padding(_mirrored),
    "aten::replication_pad2d": _padding(_repeated),
    "aten::slice": _slice,
    "aten::cat": _along("tensors"),
    "aten::split": _along("self"),
    "aten::split_with_sizes": _along("self"),
    "aten::select": _along("self"),
    "aten::_softmax": _along("self"),
    "aten::_log_softmax": _along("self"),
    "aten::native_batch_norm": _alone("input"),
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
