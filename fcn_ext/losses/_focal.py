"""focal_loss: cross-entropy with less weight on easy pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels, _processes
from fcn_ext.ops import _common


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
    the pixel's cross-entropy alone, so only a few maps as large as the labels are stored, and none
    with classes. The softmax form of Lin et al., "Focal Loss for Dense Object Detection", section
    3.2, as MONAI has it (``FocalLoss(use_softmax=True)``; its mean also divides by the number of
    classes). For the sigmoid form, see :func:`sigmoid_focal_loss`.

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
    loss = ops.cross_entropy(input, target, geometry, ignore_index=ignore_index, reduction="none")
    loss = Focused.apply(loss, gamma)
    if alpha is not None:
        _check_alpha(alpha, input)
        loss = loss * _pixels.per_pixel(alpha.detach().to(loss.dtype), target)
        # Void pixels have no class: a weight may be infinite, and zero times it is NaN.
        loss = torch.where(_pixels.not_void(target, ignore_index), loss, 0)
    return _pixels.reduced(loss, target, ignore_index, reduction, group)


def _check_alpha(alpha: Tensor, input: Tensor) -> None:
    _common.weights(alpha, "alpha", input)
    if alpha.shape != (input.shape[1],):
        raise ValueError(
            f"alpha must have shape (num_classes,) = ({input.shape[1]},), got {tuple(alpha.shape)}"
        )


def _missing(loss: Tensor) -> Tensor:
    """``1 - exp(-loss)``; zero for a loss that rounding made negative, which has no fractional
    power."""
    return loss.neg().expm1().neg().clamp(min=0)


class Focused(torch.autograd.Function):
    """``(1 - p) ** gamma * loss`` where ``p = exp(-loss)``; finite slopes at either end."""

    generate_vmap_rule = True

    @staticmethod
    def forward(loss: Tensor, gamma: float) -> Tensor:
        return _missing(loss).pow(gamma) * loss

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        loss, ctx.gamma = inputs
        ctx.save_for_backward(loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (loss,) = ctx.saved_tensors
        p = loss.neg().exp()
        rest = _missing(loss)
        # The limits of p * loss: zero times infinity is zero, and so is the slope at zero.
        inner = torch.where((loss > 0) & (p > 0), rest.pow(ctx.gamma - 1) * (p * loss), 0)
        return grads[0] * (rest.pow(ctx.gamma) + ctx.gamma * inner), None
