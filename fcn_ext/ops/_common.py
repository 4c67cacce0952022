"""What the Python code of operators shares: arguments, layouts, vmap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext._arguments import finite as finite
from fcn_ext._arguments import flag as flag
from fcn_ext._arguments import integer as integer
from fcn_ext._arguments import not_negative as not_negative
from fcn_ext._arguments import number as number
from fcn_ext._arguments import number_text as number_text
from fcn_ext._arguments import one_of as one_of
from fcn_ext._arguments import pair as pair
from fcn_ext._arguments import positive as positive
from fcn_ext._arguments import shown as shown
from fcn_ext._label_rules import check_target
from fcn_ext._rules import accumulate_dtype as accumulate_dtype
from fcn_ext._rules import broken, check_forward, check_map
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.geometry import default_kernel_size as default_kernel_size
from fcn_ext.ops import _observers

_BEYOND = 2**63


def is_tensor(value: Any, name: str) -> Tensor:
    """``value`` if it is an ordinary dense tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        kind = "nested" if value.is_nested else value.dtype if value.is_quantized else value.layout
        raise TypeError(f"{name} must be an ordinary dense tensor, got {kind}")
    return value


def on_same_device(first: Tensor, first_name: str, second: Tensor, second_name: str) -> None:
    """Raises if two tensors are on different devices.

    The dispatcher looks at one of them: next to a meta tensor, a CPU tensor would be treated as
    one, and the result would be uninitialized memory.
    """
    if first.device != second.device:
        raise ValueError(
            f"{first_name} and {second_name} must be on the same device, "
            f"got {first.device} and {second.device}"
        )


def is_map(value: Any, name: str) -> Tensor:
    """``value`` if it is a tensor of shape (N, C, H, W)."""
    if is_tensor(value, name).dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {tuple(value.shape)}")
    return value  # type: ignore[no-any-return]


def is_class_scores(scores: Any, num_classes: int) -> Tensor:
    """The argument ``scores``, if it is a map with ``num_classes`` channels."""
    check_map(is_tensor(scores, "scores"), "scores")
    if scores.shape[1] != num_classes:
        raise ValueError(
            f"scores must have num_classes = {num_classes} channels, got {tuple(scores.shape)}"
        )
    return scores  # type: ignore[no-any-return]


def is_scored_batch(scores: Any, target: Any, num_classes: int, geometry: Any) -> None:
    """Raises if the arguments ``scores`` and ``target`` of a metric's update do not match. The
    operators check all else, but call the scores ``input``."""
    is_class_scores(scores, num_classes)
    if not isinstance(target, Tensor) or target.is_nested:  # which has no shape
        return
    if target.device != scores.device:
        on_same_device(scores, "scores", target, "target")
    sizes = target.shape
    if len(sizes) == 3 and (broken(sizes[0] != scores.shape[0]) or 0 in sizes):
        check_target(scores, target, is_geometry(geometry).numbers, "scores")


def is_label_map(value: Any, name: str) -> Tensor:
    """``value`` if it is a tensor of labels, of shape (N, H, W)."""
    if is_tensor(value, name).dim() != 3:
        raise ValueError(f"{name} must have shape (N, H, W), got {tuple(value.shape)}")
    if value.dtype not in (torch.uint8, torch.int16, torch.int32, torch.int64):
        kind = str(value.dtype).removeprefix("torch.")
        raise ValueError(f"{name} must be uint8, int16, int32 or int64, got {kind}")
    return value  # type: ignore[no-any-return]


def upsample_window(
    input: Tensor, stride: Any, kernel_size: Any, offset: Any, output_size: Any
) -> tuple[int, int, int, int, int, int]:
    """(stride, kernel_size, offset_y, offset_x, height, width) for the arguments of ``upsample``;
    the window is by default all that is left below and right of the offset."""
    if type(stride) is not int:
        stride = integer(stride, "stride")
    if kernel_size is None:
        kernel_size = default_kernel_size(stride)
    elif type(kernel_size) is not int:
        kernel_size = integer(kernel_size, "kernel_size")
    top, left = pair(offset, "offset")
    if output_size is not None:
        height, width = pair(output_size, "output_size")
    else:
        height, width = ((size - 1) * stride + kernel_size for size in input.shape[2:])
        height, width = height - top, width - left
    check_64_bits(input, (stride, kernel_size, top, left), height, width, "output_size")
    return stride, kernel_size, top, left, height, width


def check_64_bits(
    input: Tensor, numbers: tuple[int, ...], height: int, width: int, name: str
) -> None:
    """Raises if the size, or the stride or kernel in a Deconvolution's ``numbers``, does not fit in
    64 bits, as operators take them; one of them then breaks a rule. ``name`` is the argument for
    the size."""
    if is_dynamo_compiling():
        return
    # Traced sizes are not compared, which would bind a graph to them.
    for value in (height, width, numbers[0], numbers[1]):
        if type(value) is int and not -_BEYOND <= value < _BEYOND:
            check_forward(input, numbers, height, width, name)


def size_of(geometry: Geometry, input: Tensor, name: str) -> tuple[int, int]:
    """The size that a geometry gives scores of itself; ``name`` is the argument that was left
    out."""
    if isinstance(geometry, Resize) and geometry.uncropped_size is None:
        raise TypeError(f"{name} must be given with a Resize, got None")
    height, width = geometry.output_size((input.shape[2], input.shape[3]))
    check_64_bits(input, geometry.numbers, height, width, "size")
    return height, width


def is_geometry(value: Any) -> Geometry:
    """``value`` if it is a geometry."""
    if not isinstance(value, (Deconvolution, Resize)):
        raise TypeError(
            "geometry must be a fcn_ext.geometry.Deconvolution or Resize, such as "
            f"Deconvolution(8), got {shown(value)}"
        )
    return value


def without_gradient(value: Tensor, name: str) -> None:
    """Raises if ``value``, for which a loss has no gradient, requires one."""
    if _observers.asks_for_gradient(value):
        raise RuntimeError(
            f"{name} must not require a gradient: the loss is differentiable with respect to "
            f"input alone. Pass {name}.detach()"
        )


def weights(value: Any, name: str, input: Tensor) -> Tensor:
    """``value`` if it is a tensor by which losses of ``input`` can be multiplied."""
    is_tensor(value, name)
    on_same_device(input, "input", value, name)
    if value.is_complex():
        raise ValueError(f"{name} must be real, got {value.dtype}")
    without_gradient(value, name)
    return value  # type: ignore[no-any-return]


def class_weight(weight: Tensor | None, input: Tensor) -> Tensor | None:
    """Class weights in the dtype in which losses of ``input`` are summed."""
    if weight is None:
        return None
    return weights(weight, "weight", input).to(accumulate_dtype(input))


def is_channels_last(map: Tensor) -> bool:
    """The rule of csrc/bilinear/bilinear_checks.h, for traced shapes."""
    return bool(map.shape[1] > 1 and map.stride(1) == 1 and map.stride(3) >= map.shape[1])


def empty_map(like: Tensor, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """An empty map with the layout and dtype of ``like``, at another size, as operators return
    it."""
    return torch.empty(
        (like.shape[0], like.shape[1], height, width),
        dtype=like.dtype if dtype is None else dtype,
        device=like.device,
        memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format,
    )


def fold_batch(map: Tensor, dim: int | None, size: int) -> Tensor:
    """A vmapped (N, C, H, W) map as one of size * N images."""
    map = map.unsqueeze(0).expand(size, *map.shape) if dim is None else map.movedim(dim, 0)
    return map.reshape(size * map.shape[1], *map.shape[2:])


def vmap_over_batch(op: Any, num_maps: int) -> Any:
    """A vmap rule for ``op``, whose first ``num_maps`` arguments, and all results, are maps of
    pixels or labels: examples become images. If another argument is batched, examples are computed
    one by one."""
    one_by_one = vmap_by_example(op)

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if any(isinstance(dim, int) for dim in in_dims[num_maps:]):
            return one_by_one(info, in_dims, *args)  # type: ignore[no-any-return]
        size = info.batch_size
        images = args[0].shape[0 if in_dims[0] is None else 1 if in_dims[0] == 0 else 0]
        maps = [
            fold_batch(map, dim, size)
            for map, dim in zip(args[:num_maps], in_dims[:num_maps], strict=True)
        ]
        result = op(*maps, *args[num_maps:])
        if isinstance(result, Tensor):
            return _unfold_batch(result, size, images), 0
        return tuple(_unfold_batch(map, size, images) for map in result), (0,) * len(result)

    return rule


def _unfold_batch(map: Tensor, size: int, images: int) -> Tensor:
    # A result that was not asked for is (0,).
    if map.dim() == 1:
        return map.expand(size, 0)
    return map.reshape(size, images, *map.shape[1:])


def vmap_by_example(op: Any) -> Any:
    """A vmap rule for ``op`` that computes one example after the other.

    For batched arguments ``in_dims`` has an integer; for a list, such as a geometry, torch gives a
    list of None.
    """

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        def example(index: int) -> Any:
            return op(
                *(
                    arg.select(dim, index) if isinstance(dim, int) else arg
                    for arg, dim in zip(args, in_dims, strict=True)
                )
            )

        if info.batch_size == 0:
            return _no_examples(op, in_dims, args)
        results = [example(index) for index in range(info.batch_size)]
        if results[0] is None:
            return None, None
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule


def _no_examples(op: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """The results of ``op`` over zero examples, in their shapes."""

    def shape_of_one(arg: Any, dim: Any) -> Any:
        if not isinstance(arg, Tensor):
            return arg
        sizes = list(arg.shape)
        if isinstance(dim, int):
            del sizes[dim]
        return torch.empty(sizes, dtype=arg.dtype, device="meta")

    results = op(*map(shape_of_one, args, in_dims))
    device = next(arg.device for arg in args if isinstance(arg, Tensor))
    if results is None:
        return None, None

    def none_of(result: Tensor) -> Tensor:
        return torch.empty((0, *result.shape), dtype=result.dtype, device=device)

    if isinstance(results, Tensor):
        return none_of(results), 0
    return tuple(map(none_of, results)), (0,) * len(results)
