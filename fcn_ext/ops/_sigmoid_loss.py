"""sigmoid_loss: a weighted sum of sigmoid_sums, with its gradient in the same pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import _mask_rules
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _autograd, _common, _observers

_op = torch.ops.fcn_ext.sigmoid_loss.default


def sigmoid_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    geometry: Geometry = Resize(),
    *,
    ignore_index: int = 255,
    gamma: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of the columns of :func:`sigmoid_sums`: losses of masks.

    ``(weight * sums).sum(-1)``, with its gradient computed in the same pass, if ``input`` requires
    one. A loss that is linear in the sums so takes half the time. A weight of zero leaves its
    column out, even if that is infinite.

        >>> scores = torch.zeros(1, 3, 8, 8, requires_grad=True)
        >>> masks = torch.ones(1, 3, 64, 64, dtype=torch.bool)
        >>> cross_entropy = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]).expand(3, 8)
        >>> loss, sums = sigmoid_loss(scores, masks, cross_entropy)
        >>> round((loss / sums[..., 3]).mean().item(), 4)                  # ln 2
        0.6931

    Args:
        input, target, geometry, ignore_index, gamma: as in :func:`sigmoid_sums`.
        weight: (Q, 8), without gradient, any strides; converted to the dtype of the loss. Columns 4
            and 5 do not count, nor do 6 and 7 without ``gamma``.

    Returns:
        The losses (N, Q), differentiable once with respect to ``input``, and the sums (N, Q, 8)
        without gradient; float32, or float64 for float64 scores. The same bits for any number of
        threads.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see :func:`sigmoid_sums`.
        RuntimeError: ``target`` or ``weight`` requires a gradient.
    """
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.is_tensor(weight, "weight")
    _common.on_same_device(input, "input", target, "target")
    _common.is_geometry(geometry)
    _common.without_gradient(target, "target")
    loss, sums, _ = _sigmoid_loss(
        input,
        target,
        _common.class_weight(weight, input),
        geometry.numbers,
        _common.integer(ignore_index, "ignore_index"),
        None if gamma is None else _common.not_negative(gamma, "gamma"),
        _observers.is_differentiated(input),
    )
    return loss, sums


@torch.library.register_fake("fcn_ext::sigmoid_loss")
def _(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    geometry: list[int],
    ignore_index: int,
    gamma: float | None,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    _mask_rules.check_sigmoid_sums(input, target, geometry, gamma)
    _mask_rules.check_sum_weight(weight, input)
    dtype = _common.accumulate_dtype(input)
    gradient = input.new_empty((0,), dtype=dtype)
    if with_gradient:
        gradient = _common.empty_map(input, input.shape[2], input.shape[3], dtype)
    return (
        input.new_empty(input.shape[:2], dtype=dtype),
        input.new_empty((*input.shape[:2], _mask_rules.SIGMOID_SUMS), dtype=dtype),
        gradient,
    )


_with_node, _without_node = _autograd.scaled_once("sigmoid_loss")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, weight, *ctx.options, _ = inputs
    _, sums, gradient = output
    ctx.mark_non_differentiable(sums, gradient)
    ctx.set_materialize_grads(False)  # zeros as large as `gradient` would be made for it
    ctx.save_for_backward(gradient, input, target, weight)
    ctx.computed = gradient.shape == input.shape


def _backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 7
    gradient, input, target, weight = ctx.saved_tensors
    if not ctx.computed:  # the forward pass did not know that it would be needed
        with torch.no_grad():
            _, _, gradient = _op(input, target, weight, *ctx.options, True)
    scale = _with_node if torch.is_grad_enabled() else _without_node
    return (scale(grad_loss, gradient, input), *[None] * 6)


_sigmoid_loss = _autograd.differentiable(_op, _backward, _setup_context)
torch.library.register_vmap("fcn_ext::sigmoid_loss", _common.vmap_over_batch(_op, 2))
