"""region_sums: the sums behind Dice, Jaccard and Tversky losses, straight from coarse scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcn_ext import _label_rules
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _autograd, _common

_op = torch.ops.fcn_ext.region_sums.default
_backward_op = torch.ops.fcn_ext.region_sums_backward.default


class RegionSums(NamedTuple):
    """What :func:`region_sums` returns: float64, of each image and class (N, C), or image (N,)."""

    probability: Tensor
    """Sum of the softmax probability."""
    intersection: Tensor
    """Sum of the softmax probability over the pixels of the class."""
    pixels: Tensor
    """Number of pixels of the class, a constant."""
    squared: Tensor | None
    """Sum of the squared probability, if asked for."""
    loss: Tensor | None
    """Summed cross-entropy of the image, (N,), if asked for."""
    total_weight: Tensor | None
    """Summed class weight of the image's pixels, (N,), a constant, if asked for."""


def region_sums(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    squared: bool = False,
    with_loss: bool = False,
) -> RegionSums:
    """Sums of softmax probabilities over the regions of a target, straight from coarse scores.

    Replaces the lines::

        logits = F.interpolate(scores, target.shape[1:], mode="bilinear")
        probability = logits.softmax(dim=1) * (target != 255).unsqueeze(1)
        one_hot = F.one_hot(target, num_classes).movedim(3, 1)
        probability.sum((2, 3)), (probability * one_hot).sum((2, 3)), one_hot.sum((2, 3))

    of which Dice is ``2 * intersection / (probability + pixels)`` and Jaccard
    ``intersection / (probability + pixels - intersection)``. Any function of the sums is a loss
    with a gradient; :mod:`fcn_ext.losses` has the usual ones. The sums are float64: those of
    several images or processes may be added before they are divided.

        >>> scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> target[:, :, 32:] = 1
        >>> sums = region_sums(scores, target)
        >>> sums.intersection.tolist(), sums.pixels.tolist()  # half a probability for each pixel
        ([[1024.0, 1024.0]], [[2048.0, 2048.0]])
        >>> dice = 2 * sums.intersection / (sums.probability + sums.pixels)
        >>> (1 - dice).mean().backward()

    With ``with_loss``, the same pass sums the cross-entropy. The memory used is of the size of the
    coarse scores. The same bits on every run, for any number of threads. Differentiable once, with
    respect to ``input``. A void pixel has a gradient of exactly zero.

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides. A
            class may be masked by -inf.
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides; each in [0, C) or
            ``ignore_index``. (H, W) is the size that the scores are taken to.
        geometry: how they reach it, a ``Deconvolution`` or a :class:`~fcn_ext.geometry.Resize`.
        weight: weights of classes in the cross-entropy (C,), without gradient, any strides.
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        squared: whether to sum squared probabilities, too.
        with_loss: whether to sum the cross-entropy, too.

    Returns:
        A named tuple of ``probability``, ``intersection``, ``pixels`` and ``squared`` (N, C),
        ``loss`` and ``total_weight`` (N,), float64; None for what was not asked for.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found. On
            the CPU this includes a label out of range, with its place. On CUDA, where looking
            would wait for the device, such a label makes its image's sums NaN.
        RuntimeError: ``weight`` requires a gradient.
    """
    sums, losses = stacked_region_sums(
        input, target, geometry, weight, ignore_index, squared, with_loss
    )
    return RegionSums(
        sums[0],
        sums[1],
        sums[2].detach(),
        sums[3] if squared else None,
        losses[0] if with_loss else None,
        losses[1].detach() if with_loss else None,
    )


def stacked_region_sums(
    input: Tensor,
    target: Tensor,
    geometry: Geometry,
    weight: Tensor | None,
    ignore_index: int,
    squared: bool,
    with_loss: bool,
) -> tuple[Tensor, Tensor]:
    """The same as the operator returns it: probability, intersection, pixels and squared
    (3 or 4, N, C), loss and total weight (2 or 0, N). Gradients of constants are ignored."""
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    _common.is_geometry(geometry)
    weight = _common.class_weight(weight, input)
    sums: tuple[Tensor, Tensor] = _region_sums(
        input,
        target,
        geometry.numbers,
        weight,
        _common.integer(ignore_index, "ignore_index"),
        _common.flag(squared, "squared"),
        _common.flag(with_loss, "with_loss"),
    )
    return sums


@torch.library.register_fake("fcn_ext::region_sums")
def _(
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    weight: Tensor | None,
    ignore_index: int,
    squared: bool,
    with_loss: bool,
) -> tuple[Tensor, Tensor]:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_class_weight(input, weight)
    sums = (4 if squared else 3, input.shape[0], input.shape[1])
    losses = (2 if with_loss else 0, input.shape[0])
    return (
        input.new_empty(sums, dtype=torch.float64),
        input.new_empty(losses, dtype=torch.float64),
    )


@torch.library.register_fake("fcn_ext::region_sums_backward")
def _(
    grad_sums: Tensor,
    grad_losses: Tensor,
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    weight: Tensor | None,
    ignore_index: int,
) -> Tensor:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_region_gradients(grad_sums, grad_losses, input)
    _label_rules.check_class_weight(input, weight)
    dtype = _common.accumulate_dtype(input)
    return _common.empty_map(input, input.shape[2], input.shape[3], dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, target, ctx.geometry, weight, ctx.ignore_index, ctx.squared, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(input, target, weight)


def gradient_of_scores(
    grads: tuple[Tensor | None, ...],
    input: Tensor,
    target: Tensor,
    geometry: Sequence[int],
    weight: Tensor | None,
    ignore_index: int,
    squared: bool,
) -> Tensor:
    """The gradient of ``input``, in the dtype of sums, from the gradients of sums and losses, if
    any."""
    grad_sums, grad_losses = grads
    dtype = _common.accumulate_dtype(input)
    images, classes = input.shape[:2]
    if grad_sums is None:
        grad_sums = input.new_zeros((4 if squared else 3, images, classes), dtype=dtype)
    if grad_losses is None:
        grad_losses = input.new_zeros((0, images), dtype=dtype)
    parts = grad_sums.to(dtype), grad_losses.to(dtype)
    gradient: Tensor = _region_sums_backward(*parts, input, target, geometry, weight, ignore_index)
    return gradient


def _backward(ctx: Any, *grads: Tensor | None) -> Any:
    if grads[0] is None and grads[1] is None:  # `in` and == would compare tensors
        return (None,) * 7
    input, target, weight = ctx.saved_tensors
    arguments = input, target, ctx.geometry, weight, ctx.ignore_index, ctx.squared
    return (gradient_of_scores(grads, *arguments).to(input.dtype), *[None] * 6)


def _refuse(ctx: Any, grad: Tensor) -> Any:
    raise _autograd.differentiable_once("region_sums")


_region_sums = _autograd.differentiable(_op, _backward, _setup_context)
_region_sums_backward = _autograd.differentiable(_backward_op, _refuse)
torch.library.register_vmap("fcn_ext::region_sums", _common.vmap_by_example(_op))
torch.library.register_vmap("fcn_ext::region_sums_backward", _common.vmap_by_example(_backward_op))
