"""cross_entropy: the loss straight from coarse scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import _label_rules
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _autograd, _common, _observers
from fcn_ext.ops._cross_entropy_pixels import (
    cross_entropy_pixels,
    cross_entropy_pixels_hits,
    empty_hits,
)

_op = torch.ops.fcn_ext.cross_entropy.default
_hits_op = torch.ops.fcn_ext.cross_entropy_hits.default
_scale_op = torch.ops.fcn_ext.scale_gradient.default


def cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy at the size of ``target``, straight from coarse scores.

    Replaces the two lines::

        logits = F.interpolate(scores, target.shape[1:], mode="bilinear")
        loss = F.cross_entropy(logits, target.long(), ignore_index=255)

    or, with a :class:`~fcn_ext.geometry.Deconvolution`, ``ops.upsample`` and ``F.cross_entropy``.
    Three things differ: a void pixel (``target == ignore_index``) has a gradient of exactly zero,
    even where its scores are NaN; the mean over no weight at all is the sum divided by zero (NaN,
    or with label smoothing infinite, where ``F.cross_entropy`` gives NaN), and its gradient is zero
    if scores and ``weight`` are finite; and the loss of half scores is float32.

        >>> scores = torch.zeros(1, 21, 32, 32, requires_grad=True)
        >>> target = torch.randint(0, 21, (1, 250, 333))
        >>> loss = cross_entropy(scores, target)
        >>> loss.backward()
        >>> round(loss.item(), 4)                         # ln 21
        3.0445

    Loss and gradient are computed together, in one pass over the coarse scores, where ``input``
    requires a gradient; the memory used is of their size. Sums are kept in float32 (float64 for
    float64 scores), also under autocast, which changes no dtype here. The same bits on every run,
    for any number of threads. Differentiable once, with respect to ``input``: a second derivative
    raises.

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides. A
            class may be masked by -inf.
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides; each in [0, C) or
            ``ignore_index``. (H, W) is the size that the scores are taken to; it need not be a
            multiple of theirs.
        geometry: how they reach it, a ``Deconvolution`` or a :class:`~fcn_ext.geometry.Resize`.
        weight: class weights (C,), without gradient, any strides; converted to the dtype of the
            loss.
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
    arguments = _arguments(
        input, target, geometry, weight, ignore_index, reduction, label_smoothing
    )
    if reduction == "none":
        pixels: Tensor = cross_entropy_pixels(*arguments)
        return pixels
    loss: Tensor
    loss, _, _ = _cross_entropy(
        *arguments, reduction == "mean", _observers.is_differentiated(input)
    )
    return loss


def cross_entropy_hits(
    input: Tensor,
    target: Tensor,
    geometry: Geometry,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """:func:`cross_entropy` and, from the same pass, its hits: int64 numbers (2,) of pixels that
    are not void, and of those whose label has the greatest score, as
    :func:`fcn_ext.ops.score_confusion_matrix` counts them."""
    arguments = _arguments(
        input, target, geometry, weight, ignore_index, reduction, label_smoothing
    )
    if reduction == "none":
        loss, hits = cross_entropy_pixels_hits(*arguments)
    else:
        loss, _, _, hits = _cross_entropy_hits(
            *arguments, reduction == "mean", _observers.is_differentiated(input)
        )
    return loss, hits


def upsample_cross_entropy(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | Sequence[int] = 0,
    **options: Any,
) -> Tensor:
    """``cross_entropy(input, target, Deconvolution(stride, kernel_size, offset), **options)``."""
    return cross_entropy(input, target, Deconvolution(stride, kernel_size, offset), **options)


def interpolate_cross_entropy(
    input: Tensor, target: Tensor, *, align_corners: bool = False, **options: Any
) -> Tensor:
    """``cross_entropy(input, target, Resize(align_corners), **options)``."""
    return cross_entropy(input, target, Resize(align_corners), **options)


def _arguments(
    input: Tensor,
    target: Tensor,
    geometry: Geometry,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Any, ...]:
    """The arguments of the operators, except ``mean`` and ``with_gradient``."""
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    _common.one_of(reduction, ("none", "mean", "sum"), "reduction")
    _common.is_geometry(geometry)
    weight = _common.class_weight(weight, input)
    return (
        input,
        target,
        geometry.numbers,
        weight,
        _common.integer(ignore_index, "ignore_index"),
        _common.number(label_smoothing, "label_smoothing"),
    )


_with_node, _without_node = _autograd.scaled_once("cross_entropy")


@torch.library.register_fake("fcn_ext::cross_entropy")
def _sum(
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    mean: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_cross_entropy(input, weight, label_smoothing)
    dtype = _common.accumulate_dtype(input)
    gradient = input.new_empty((0,), dtype=dtype)
    if with_gradient:
        gradient = _common.empty_map(input, input.shape[2], input.shape[3], dtype)
    return input.new_empty((), dtype=dtype), input.new_empty((), dtype=dtype), gradient


@torch.library.register_fake("fcn_ext::cross_entropy_hits")
def _(input: Tensor, target: Tensor, geometry: list[int], *rest: Any) -> tuple[Tensor, ...]:
    _label_rules.check_target(input, target, geometry)
    hits = empty_hits(input)
    return (*_sum(input, target, geometry, *rest), hits)


@torch.library.register_fake("fcn_ext::scale_gradient")
def _(gradient: Tensor, factor: Tensor) -> None:
    _label_rules.check_scale(gradient, factor)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, ctx.geometry, weight, *ctx.numbers, _ = inputs
    _, total_weight, gradient, *hits = output
    ctx.mark_non_differentiable(total_weight, gradient, *hits)
    ctx.set_materialize_grads(False)  # or zeros as large as `gradient` would be made
    ctx.save_for_backward(gradient, input, target, weight)
    ctx.untouched = [gradient.shape == input.shape]


def _gradient_of(ctx: Any, saved: tuple[Tensor, ...], computed: bool) -> Tensor:
    """The gradient of the loss with respect to the scores: the saved one, if it was
    ``computed``."""
    gradient, input, target, weight = saved
    if not computed:
        with torch.no_grad():
            _, _, gradient = _op(input, target, ctx.geometry, weight, *ctx.numbers, True)
    return gradient


def _backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 8
    return _scaled(ctx, ctx.saved_tensors, grad_loss)


def _scaled(ctx: Any, saved: tuple[Tensor, ...], grad_loss: Tensor) -> tuple[Tensor | None, ...]:
    # It was not saved if the forward pass did not know that a gradient would be needed, or if a
    # backward pass has taken it.
    gradient = _gradient_of(ctx, saved, ctx.untouched == [True])
    scale = _with_node if torch.is_grad_enabled() else _without_node
    return (scale(grad_loss, gradient, saved[1]), *[None] * 7)


def _backward_in_place(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    """The same without a copy: the first backward pass takes the gradient that the forward pass
    computed. It is multiplied on its device, if ``grad_loss`` is not one there."""
    if grad_loss is None:
        return (None,) * 8
    saved = ctx.saved_tensors
    if not (_observers.is_plain(grad_loss, *saved[:2]) and _label_rules.is_dense(saved[0])):
        return _scaled(ctx, saved, grad_loss)
    try:
        untouched = ctx.untouched.pop()  # only one thread gets it
    except IndexError:
        untouched = False
    # With a version counter of its own: changing it does not count as a change of the saved tensor,
    # which later passes do not use.
    gradient = _gradient_of(ctx, saved, untouched).data
    _scale_op(gradient, grad_loss)
    return (gradient.to(saved[1].dtype), *[None] * 7)


_cross_entropy = _autograd.differentiable(
    _op, _backward, _setup_context, eager_backward=_backward_in_place
)
_cross_entropy_hits = _autograd.differentiable(
    _hits_op, _backward, _setup_context, eager_backward=_backward_in_place
)
torch.library.register_vmap("fcn_ext::cross_entropy", _common.vmap_by_example(_op))
torch.library.register_vmap("fcn_ext::cross_entropy_hits", _common.vmap_by_example(_hits_op))
