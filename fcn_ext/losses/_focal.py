"""focal_loss: cross-entropy with less weight on easy pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels, _processes
from fcn_ext.ops import _autograd, _common, _observers


def focal_loss(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    group: Any = None,
) -> Tensor:
    """Softmax focal loss, ``-alpha[y] * (1 - p_y) ** gamma * ln p_y``, from coarse scores.

    ``p_y`` is the softmax probability of a pixel's label ``y`` at full size. It is a function of
    the pixel's cross-entropy alone, so only about three maps as large as the labels are stored,
    with the backward pass, and none with classes. The softmax form of Lin et al., "Focal Loss
    for Dense Object Detection", section 3.2, as MONAI has it (``FocalLoss(use_softmax=True)``; its
    mean also divides by the number of classes). For the sigmoid form, see
    :func:`sigmoid_focal_loss`.

        >>> import torch
        >>> scores, target = torch.zeros(1, 4, 8, 8), torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> round(focal_loss(scores, target).item(), 4)            # (3 / 4) ** 2 * ln 4
        0.7798

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64; each in [0, C) or
            ``ignore_index``.
        geometry: how the scores reach the size of the target.
        gamma: >= 0 and finite; at zero this is the cross-entropy.
        alpha: weights of the classes (C,), without gradient.
        ignore_index: the value of void labels.
        reduction: "none", the loss of each pixel, zero where void; "sum"; "mean" over the pixels
            that are not void, whatever their ``alpha``; or "mean_all", over all pixels. Over
            nothing a mean is zero.
        group: a process group (True: the default one) whose processes hold parts of one batch, over
            which the means are taken; the mean of their gradients, which
            ``DistributedDataParallel`` takes, is then that of the whole batch.

    Returns:
        (), or (N, H, W) for reduction "none": float32, or float64 for float64 scores.
        Differentiable once with respect to ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.cross_entropy`.
        RuntimeError: ``alpha`` requires a gradient.
    """
    _pixels.check_reduction(reduction)
    group = _processes.of_group(group)
    gamma = _common.not_negative(gamma, "gamma")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    loss = ops.cross_entropy(input, target, geometry, ignore_index=ignore_index, reduction="none")
    if alpha is None:
        loss = focused(loss, gamma)
    else:
        _check_alpha(alpha, input)
        # Void pixels have no class: a weight may be infinite, and zero times it is NaN.
        loss = focused(loss, gamma, alpha.detach(), target, ignore_index)
    return _pixels.reduced(loss, target, ignore_index, reduction, group)


def _check_alpha(alpha: Tensor, input: Tensor) -> None:
    _common.weights(alpha, "alpha", input)
    if alpha.shape != (input.shape[1],):
        raise ValueError(
            f"alpha must have shape (num_classes,) = ({input.shape[1]},), got {tuple(alpha.shape)}"
        )


def focused(
    loss: Tensor,
    gamma: float,
    alpha: Tensor | None = None,
    target: Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """``alpha[target] * (1 - p) ** gamma * loss`` where ``p = exp(-loss)``, of each pixel.

    Args:
        loss: cross-entropies of pixels, of which nothing else is made.
        alpha: weights of the labels of ``target`` (C,), without gradient.
        target: as large as ``loss``.
        ignore_index: the label where the product is zero. None: it is zero where the weight is,
            even where the loss is infinite.
    """
    arguments = (loss, gamma, alpha, target, ignore_index)
    if _observers.is_traced():  # by one line of source, with gradients or without
        return _value_and_slope(False, *arguments)[0]
    # What vmap has batched does not tell that grad, around it, is to differentiate it.
    unknown = is_dynamo_compiling() or _observers._transforms_active()
    if (unknown or loss.requires_grad) and torch.is_grad_enabled():
        value: Tensor
        value, _ = _focused(*arguments)
        return value
    with torch.no_grad():
        return _value_and_slope(False, *arguments)[0]


def _value_and_slope(
    with_slope: bool,
    loss: Tensor,
    gamma: float,
    alpha: Tensor | None,
    target: Tensor | None,
    ignore_index: int | None,
) -> tuple[Tensor, ...]:
    """What :func:`focused` gives, and its slope by ``loss``, finite at either end."""
    gamma = min(gamma, torch.finfo(loss.dtype).max / 2)  # which times zero is zero
    if _observers.is_plain(loss) and not _observers.is_traced():
        maps = _in_place(loss, gamma, with_slope)
    else:
        maps = _in_new_maps(loss, gamma, with_slope)
    if alpha is not None and target is not None:
        maps = _weighed(maps, alpha.to(loss.dtype), target, ignore_index)
    return maps


def _in_new_maps(loss: Tensor, gamma: float, with_slope: bool) -> tuple[Tensor, ...]:
    # 1 - p; zero for a loss that rounding made negative, which has no fractional power.
    rest = loss.clamp(min=0).neg().expm1().neg()
    power = rest.pow(gamma)
    if not with_slope:
        return (power * loss,)
    # Of the fraction the limit at infinity is zero; at zero any number will do beside a power that
    # is zero, or a gamma that is.
    fraction = ((1 - rest) * loss / rest).nan_to_num(nan=0, posinf=0, neginf=0)
    return power * loss, power * (1 + gamma * fraction)


def _in_place(loss: Tensor, gamma: float, with_slope: bool) -> tuple[Tensor, ...]:
    """The same in the memory of two maps."""
    rest = loss.clamp(min=0).neg_().expm1_().neg_()
    if not with_slope:
        return (rest.pow_(gamma).mul_(loss),)
    fraction = (1 - rest).mul_(loss).div_(rest).nan_to_num_(nan=0, posinf=0, neginf=0)
    power = rest.pow_(gamma)
    slope = fraction.mul_(gamma).add_(1).mul_(power)
    return power.mul_(loss), slope


# By all its names: by those torch.compile knows that it takes no context.
def _with_slope(
    loss: Tensor,
    gamma: float,
    alpha: Tensor | None,
    target: Tensor | None,
    ignore_index: int | None,
) -> tuple[Tensor, ...]:
    return _value_and_slope(True, loss, gamma, alpha, target, ignore_index)


def _keep_slope(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, slope = output
    ctx.mark_non_differentiable(slope)
    ctx.set_materialize_grads(False)  # zeros as large as `slope` would be made for it
    ctx.save_for_backward(slope)


def _times_slope(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    (slope,) = ctx.saved_tensors
    return (None if grad is None else grad * slope, None, None, None, None)


# Keeps one map, from which and the gradient the backward pass makes another.
_focused = _autograd.function("FocalPixels", _with_slope, _keep_slope, _times_slope)

# What is made for the weights of pixels is an eighth of a map at a time, or so many pixels.
_PARTS, _PIXELS = 8, 2**16


def _weighed(
    maps: tuple[Tensor, ...], alpha: Tensor, target: Tensor, ignore_index: int | None
) -> tuple[Tensor, ...]:
    """Maps of pixels times the weights of their labels, in place where nobody can see it."""

    def shares(labels: Tensor) -> tuple[Tensor, Tensor]:
        share = _pixels.per_pixel(alpha, labels)
        if ignore_index is None:
            return share, share == 0
        return share, ~_pixels.not_void(labels, ignore_index)

    if not _observers.is_plain(*maps, alpha, target) or _observers.is_traced():
        share, left_out = shares(target)
        return tuple((map * share).masked_fill(left_out, 0) for map in maps)
    count = min(_PARTS, 1 + target.numel() // _PIXELS)
    parts = [tensor.tensor_split(count, -2) for tensor in (target, *maps)]
    for labels, *others in zip(*parts, strict=True):
        share, left_out = shares(labels)
        for part in others:
            part.mul_(share).masked_fill_(left_out, 0)
    return maps
