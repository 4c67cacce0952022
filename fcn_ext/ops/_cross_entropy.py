"""upsample_cross_entropy, interpolate_cross_entropy: the loss straight from coarse scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.ops import _autograd, _common


def upsample_cross_entropy(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of ``upsample(input, stride, ...)``, which is never stored.

    Equals ``F.cross_entropy(upsample(input, stride, kernel_size=kernel_size, offset=offset,
    output_size=target.shape[1:]), target.long(), ...)``, with three differences: a void pixel
    (``target == ignore_index``) has a gradient of exactly zero, even where its scores are NaN;
    where the mean is over no weight at all, and therefore not finite, its gradient is zero; and
    the loss of half scores is float32.

    Loss and gradient are computed together, in one pass over the coarse scores, where ``input``
    requires a gradient; the memory used is of their size. Sums are kept in float32 (float64 for
    float64 scores), also under autocast, which changes no dtype here. The same bits on every run,
    for any number of threads. Differentiable once, with respect to ``input``: a second derivative
    raises.

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides. A
            class may be masked by -inf.
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides; each in [0, C) or
            ``ignore_index``. (H, W) is the size that the scores are upsampled to.
        stride: output pixels an input pixel, >= 1.
        kernel_size: ``2 * stride`` (the default for every stride but 1) or ``2 * stride - 1``
            (the default, 1, for stride 1).
        offset: first row and column of the window of the upsampled scores that ``target`` covers,
            >= 0; one number or (y, x).
        weight: class weights (C,), without gradient; converted to the dtype of the loss.
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        reduction: "none", the loss of each pixel, zero where void; "sum"; or "mean", the sum
            divided by the sum of ``weight[target]`` over the pixels that are not void.
        label_smoothing: in [0, 1], the share of the target that is spread over all classes.

    Returns:
        (), or (N, H, W) for reduction "none": float32, or float64 for float64 scores.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found. On
            the CPU this includes a label out of range, with its place. On CUDA, where looking
            would wait for the device, such a label makes the loss NaN;
            :func:`fcn_ext.ops.check_labels` finds it.
        RuntimeError: ``weight`` requires a gradient.
    """
    _check(input, target, weight, reduction)
    geometry = _common.upsample_geometry(stride, kernel_size, offset)
    return _loss(
        *_upsample,
        (input, target, *geometry),
        weight,
        _common.integer(ignore_index, "ignore_index"),
        reduction,
        _common.number(label_smoothing, "label_smoothing"),
    )


def interpolate_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    align_corners: bool = False,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of scores interpolated to the size of ``target``, never stored.

    Replaces the two lines::

        logits = F.interpolate(scores, target.shape[1:], mode="bilinear")
        loss = F.cross_entropy(logits, target, ignore_index=255)

    In all else it is :func:`upsample_cross_entropy`, with the geometry of
    :func:`fcn_ext.ops.interpolate`. Sizes need not be multiples of each other, and the scores may
    be larger than the target, too.

    Args:
        input: coarse scores (N, C, h, w), as there.
        target: labels (N, H, W), as there.
        align_corners: the corner pixels of scores and target coincide, instead of the outer edges.
        weight: class weights (C,), as there.
        ignore_index: target value to skip, as there.
        reduction: "none", "sum" or "mean", as there.
        label_smoothing: in [0, 1], as there.

    Returns:
        (), or (N, H, W) for reduction "none": float32, or float64 for float64 scores.

    Raises:
        TypeError, ValueError, RuntimeError: as there.
    """
    _check(input, target, weight, reduction)
    if not isinstance(align_corners, bool):
        raise TypeError(f"align_corners must be a bool, got {align_corners!r}")
    return _loss(
        *_interpolate,
        (input, target, align_corners),
        weight,
        _common.integer(ignore_index, "ignore_index"),
        reduction,
        _common.number(label_smoothing, "label_smoothing"),
    )


def _check(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> None:
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if weight is not None:
        _common.is_tensor(weight, "weight")
        _common.on_same_device(input, "input", weight, "weight")
        if weight.is_complex():
            raise ValueError(f"weight must be real, got {weight.dtype}")
        if weight.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "weight must not require a gradient: the loss is differentiable with respect to "
                "input alone. Pass weight.detach()"
            )


def _loss(
    op: Any,
    pixels_op: Any,
    arguments: tuple[Any, ...],
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    input = arguments[0]
    if weight is not None:
        weight = weight.to(_common.accumulate_dtype(input))
    arguments = (*arguments, weight, ignore_index, label_smoothing)
    if reduction == "none":
        pixels: Tensor = pixels_op(*arguments)
        return pixels
    loss: Tensor
    loss, total_weight, _ = op(*arguments, input.requires_grad and torch.is_grad_enabled())
    return loss if reduction == "sum" else loss / total_weight


class _ScaledOnce(torch.autograd.Function):
    """``gradient * grad_loss`` as the gradient of ``input``, on which the result depends, so that
    a second derivative finds this node, and is refused by it, instead of finding nothing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad_loss: Tensor, gradient: Tensor, input: Tensor, name: str) -> Tensor:
        return (gradient * grad_loss).to(input.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name = inputs[3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _differentiable_once(ctx.name)


def _differentiable_once(name: str) -> RuntimeError:
    return RuntimeError(f"{name} is differentiable once, but its second derivative was asked for")


# Arguments of the operators: input, target, the geometry, weight, ignore_index, label_smoothing;
# and with_gradient, or before all a gradient of pixels.


def _fake(input: Tensor, target: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _common.accumulate_dtype(input)
    gradient = input.new_empty((0,), dtype=dtype)
    if arguments[-1]:
        gradient = _common.empty_map(input, input.shape[2], input.shape[3], dtype)
    return input.new_empty((), dtype=dtype), input.new_empty((), dtype=dtype), gradient


def _pixels_fake(input: Tensor, target: Tensor, *arguments: Any) -> Tensor:
    return input.new_empty(target.shape, dtype=_common.accumulate_dtype(input))


def _pixels_backward_fake(grad: Tensor, input: Tensor, *arguments: Any) -> Tensor:
    dtype = _common.accumulate_dtype(input)
    return _common.empty_map(input, input.shape[2], input.shape[3], dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, *ctx.geometry, weight, ctx.ignore_index, ctx.label_smoothing, _ = inputs
    _, total_weight, gradient = output
    ctx.mark_non_differentiable(total_weight, gradient)
    ctx.set_materialize_grads(False)  # zeros as large as `gradient` would be made for it
    ctx.save_for_backward(gradient, total_weight, input, target, weight)


def _pixels_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, target, *ctx.geometry, weight, ctx.ignore_index, ctx.label_smoothing = inputs
    ctx.save_for_backward(input, target, weight)


def _register(name: str) -> tuple[Any, Any]:
    operators = torch.ops.fcn_ext
    op = getattr(operators, name).default
    pixels_op = getattr(operators, f"{name}_pixels").default
    pixels_backward_op = getattr(operators, f"{name}_pixels_backward").default
    num_inputs = len(op._schema.arguments)

    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * num_inputs
        gradient, total_weight, input, target, weight = ctx.saved_tensors
        if gradient.shape != input.shape:
            # Nobody had told the forward pass that a gradient would be asked for.
            numbers = (ctx.ignore_index, ctx.label_smoothing, True)
            with torch.no_grad():
                _, _, gradient = op(input, target, *ctx.geometry, weight, *numbers)
        # The mean of nothing is 0 / 0. Its gradient must not be NaN: void pixels have none.
        finite = torch.nan_to_num(grad_loss, 0.0, 0.0, 0.0)
        grad_loss = torch.where(total_weight == 0, finite, grad_loss)
        scale = _ScaledOnce.apply if torch.is_grad_enabled() else _ScaledOnce.forward
        grad_input = scale(grad_loss, gradient, input, name)
        return (grad_input, *[None] * (num_inputs - 1))

    def pixels_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, target, weight = ctx.saved_tensors
        numbers = (ctx.ignore_index, ctx.label_smoothing)
        arguments = (grad.contiguous(), input, target, *ctx.geometry, weight, *numbers)
        grad_input = differentiable_once(*arguments).to(input.dtype)
        return (grad_input, *[None] * (num_inputs - 2))

    def refuse(ctx: Any, grad: Tensor) -> Any:
        raise _differentiable_once(name)

    library, qualified = torch.library, f"fcn_ext::{name}"
    library.register_fake(qualified, _fake)
    library.register_fake(f"{qualified}_pixels", _pixels_fake)
    library.register_fake(f"{qualified}_pixels_backward", _pixels_backward_fake)
    library.register_vmap(qualified, _common.vmap_by_example(op))
    library.register_vmap(f"{qualified}_pixels", _common.vmap_over_batch(pixels_op, 2))
    library.register_vmap(
        f"{qualified}_pixels_backward", _common.vmap_over_batch(pixels_backward_op, 3)
    )
    differentiable_once = _autograd.differentiable(pixels_backward_op, refuse)
    return (
        _autograd.differentiable(op, backward, _setup_context),
        _autograd.differentiable(pixels_op, pixels_backward, _pixels_setup_context),
    )


_upsample = _register("upsample_cross_entropy")
_interpolate = _register("interpolate_cross_entropy")
