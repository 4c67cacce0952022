"""The operators of cross_entropy that return the loss of every pixel, and their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import _label_rules
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.cross_entropy_pixels.default
_hits_op = torch.ops.fcn_ext.cross_entropy_pixels_hits.default
_backward_op = torch.ops.fcn_ext.cross_entropy_pixels_backward.default


def empty_hits(input: Tensor) -> Tensor:
    """The empty result ``hits`` for ``input``: how many pixels count, and how many of them are
    right."""
    _label_rules.check_most_classes(input, "input")
    return input.new_empty((2,), dtype=torch.int64)


@torch.library.register_fake("fcn_ext::cross_entropy_pixels")
def _pixels(
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_cross_entropy(input, weight, label_smoothing)
    return input.new_empty(target.shape, dtype=_common.accumulate_dtype(input))


@torch.library.register_fake("fcn_ext::cross_entropy_pixels_hits")
def _(input: Tensor, target: Tensor, geometry: list[int], *rest: Any) -> tuple[Tensor, Tensor]:
    _label_rules.check_target(input, target, geometry)
    hits = empty_hits(input)
    return _pixels(input, target, geometry, *rest), hits


@torch.library.register_fake("fcn_ext::cross_entropy_pixels_backward")
def _(
    grad: Tensor,
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_pixel_gradient(grad, input, target)
    _label_rules.check_cross_entropy(input, weight, label_smoothing)
    dtype = _common.accumulate_dtype(input)
    return _common.empty_map(input, input.shape[2], input.shape[3], dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, target, ctx.geometry, weight, ctx.ignore_index, ctx.label_smoothing = inputs
    ctx.save_for_backward(input, target, weight)


def _hits_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    loss, hits = output
    ctx.mark_non_differentiable(hits)
    _setup_context(ctx, inputs, loss)


def _backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    input, target, weight = ctx.saved_tensors
    numbers = (ctx.ignore_index, ctx.label_smoothing)
    grad_input = _gradient(grad, input, target, ctx.geometry, weight, *numbers)
    return (grad_input.to(input.dtype), *[None] * 5)


def _refuse(ctx: Any, grad: Tensor) -> Any:
    raise _autograd.differentiable_once("cross_entropy")


cross_entropy_pixels = _autograd.differentiable(_op, _backward, _setup_context)
cross_entropy_pixels_hits = _autograd.differentiable(_hits_op, _backward, _hits_setup_context)
_gradient = _autograd.differentiable(_backward_op, _refuse)
torch.library.register_vmap("fcn_ext::cross_entropy_pixels", _common.vmap_over_batch(_op, 2))
torch.library.register_vmap("fcn_ext::cross_entropy_pixels_hits", _common.vmap_by_example(_hits_op))
torch.library.register_vmap(
    "fcn_ext::cross_entropy_pixels_backward", _common.vmap_over_batch(_backward_op, 3)
)
