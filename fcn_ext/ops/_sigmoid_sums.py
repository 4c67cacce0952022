"""sigmoid_sums: the sums behind losses of masks, straight from coarse scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import _mask_rules
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.sigmoid_sums.default
_backward_op = torch.ops.fcn_ext.sigmoid_sums_backward.default


def sigmoid_sums(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    ignore_index: int = 255,
    gamma: float | None = None,
    regions: bool = False,
) -> Tensor:
    """Sums over the pixels of each mask, on which losses with a sigmoid are built.

    With the logit ``x`` of a pixel at full size, its target ``t``, ``p = sigmoid(x)`` and
    ``softplus(x) = ln(1 + exp(x))``, over the pixels that are not void:

    ======  ==================================  =============================================
    column  sum of                              use
    ======  ==================================  =============================================
    0       ``t * softplus(-x)``                cross-entropy of what is there
    1       ``(1 - t) * softplus(x)``           ... and of what is not
    2       ``t``                               Dice, and shares
    3       ``1``                               means
    4       ``p``                               Dice, with ``regions``
    5       ``p * t``                           Dice, with ``regions``
    6       ``t * (1-p)**gamma*softplus(-x)``   focal, with ``gamma``
    7       ``(1-t) * p**gamma*softplus(x)``    focal, with ``gamma``
    ======  ==================================  =============================================

    Neither logits nor anything else of full size is stored. :mod:`fcn_ext.losses` has the losses;
    :func:`sigmoid_loss` is for those that are linear in these sums, and takes half the time.

        >>> scores = torch.zeros(1, 3, 8, 8, requires_grad=True)
        >>> masks = torch.ones(1, 3, 64, 64, dtype=torch.bool)
        >>> sums = sigmoid_sums(scores, masks)
        >>> round((sums[..., 0] / sums[..., 3]).mean().item(), 4)          # ln 2
        0.6931

    Args:
        input: coarse scores (N, Q, h, w), float32, float64, float16 or bfloat16, any strides.
        target: (N, Q, H, W), any strides. Bool or integers: 0, 1 or ``ignore_index``. Floating
            point: in [0, 1], none of it void.
        geometry: how the scores reach the size of the target.
        ignore_index: the value of void pixels in integer targets; it may be 0 or 1.
        gamma: >= 0 and finite, for the last two columns; with it the target must be bool or
            integers.
        regions: whether columns 4 and 5 are wanted.

    Returns:
        (N, Q, 8) float32, or float64 for float64 scores; zero in columns that are not asked for.
        Summed in an order fixed by the shape: the same bits for any number of threads.
        Differentiable once with respect to ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found. On
            the CPU this includes a target out of range, with its place; on CUDA, where looking
            would wait for the device, the sums of its mask are NaN.
        RuntimeError: ``target`` requires a gradient.
    """
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    _common.is_geometry(geometry)
    _common.flag(regions, "regions")
    _common.without_gradient(target, "target")
    sums: Tensor = _sigmoid_sums(
        input,
        target,
        geometry.numbers,
        _common.integer(ignore_index, "ignore_index"),
        None if gamma is None else _common.not_negative(gamma, "gamma"),
        regions,
    )
    return sums


@torch.library.register_fake("fcn_ext::sigmoid_sums")
def _(
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    ignore_index: int,
    gamma: float | None,
    regions: bool,
) -> Tensor:
    _mask_rules.check_sigmoid_sums(input, target, geometry, gamma)
    shape = (*input.shape[:2], _mask_rules.SIGMOID_SUMS)
    return input.new_empty(shape, dtype=_common.accumulate_dtype(input))


@torch.library.register_fake("fcn_ext::sigmoid_sums_backward")
def _(
    grad_output: Tensor,
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    ignore_index: int,
    gamma: float | None,
    regions: bool,
) -> Tensor:
    _mask_rules.check_sigmoid_sums(input, target, geometry, gamma)
    _mask_rules.check_sum_gradient(grad_output, input)
    dtype = _common.accumulate_dtype(input)
    return _common.empty_map(input, input.shape[2], input.shape[3], dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, target, *ctx.options = inputs
    ctx.save_for_backward(input, target)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, target = ctx.saved_tensors
    return (_sigmoid_sums_backward(grad, input, target, *ctx.options).to(input.dtype), *[None] * 5)


def _refuse(ctx: Any, grad: Tensor) -> Any:
    raise _autograd.differentiable_once("sigmoid_sums")


_sigmoid_sums = _autograd.differentiable(_op, _backward, _setup_context)
_sigmoid_sums_backward = _autograd.differentiable(_backward_op, _refuse)
torch.library.register_vmap("fcn_ext::sigmoid_sums", _common.vmap_over_batch(_op, 2))
torch.library.register_vmap(
    "fcn_ext::sigmoid_sums_backward", _common.vmap_over_batch(_backward_op, 3)
)
