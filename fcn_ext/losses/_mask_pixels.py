"""The loss of each pixel of masks, as the cross-entropy of two classes.

``softplus(-x)`` and ``softplus(x)``, the losses of a pixel whose target is one or zero, are the
cross-entropies of the scores ``[0, x]`` with the labels 1 and 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function

from fcn_ext import _mask_rules, ops
from fcn_ext.geometry import Geometry
from fcn_ext.losses import _pixels
from fcn_ext.losses._focal import focused
from fcn_ext.ops import _autograd, _common, _observers


def two_classes(scores: Tensor) -> Tensor:
    """The scores of two classes (N * Q, 2, h, w) for the masks (N, Q, h, w)."""
    # Not torch.cat, which autocast refuses in float16 on the CPU.
    return F.pad(scores.flatten(0, 1).unsqueeze(1), (0, 0, 0, 0, 1, 0))


def pixel_losses(input: Tensor, labels: Tensor, geometry: Geometry, ignore_index: int) -> Tensor:
    """The cross-entropy of the pixels of masks with scores (N, Q, h, w) and labels 0 and 1, (N * Q,
    H, W); in the shape of the labels, zero where void."""
    if not is_dynamo_compiling() and has_torch_function((input,)):
        arguments = (input, labels, geometry, ignore_index)
        found: Tensor = handle_torch_function(pixel_losses, (input,), *arguments)
        return found
    return ops.cross_entropy(
        two_classes(input), labels, geometry, ignore_index=ignore_index, reduction="none"
    )


NO_VOID = 255
"""An ``ignore_index`` that is neither 0 nor 1, for floating-point targets, which have no void."""


def every_pixel(label: int, target: Tensor) -> Tensor:
    """The same label for all pixels of a target (N, Q, H, W): (N * Q, H, W), which takes no
    memory."""
    shape = (target.shape[0] * target.shape[1], *target.shape[2:])
    # Not torch.tensor, which on CUDA copies from the host and waits.
    return torch.full((), label, dtype=torch.uint8, device=target.device).expand(shape)


def _times(
    target: Tensor, weight: Tensor | None, loss: Tensor, share_of: Callable[..., Tensor]
) -> Tensor:
    """``share_of(target, weight, dtype of loss)`` times the loss; zero where the share is, even of
    a loss that is infinite, as in the sums."""
    # Where a compiler, a trace or a transform looks on, the target does not tell whether it is to
    # be differentiated.
    if _observers.is_looked_into() or (target.requires_grad and torch.is_grad_enabled()):
        share = share_of(target, weight, loss.dtype)
        # The gradient of a zero share is the loss, unless that is infinite.
        return share * torch.where((share != 0) | loss.isfinite(), loss, 0)
    product: Tensor = _differentiable_product(loss, target, weight, share_of)
    return product


def _product(
    loss: Tensor, target: Tensor, weight: Tensor | None, share_of: Callable[..., Tensor]
) -> Tensor:
    share = share_of(target, weight, loss.dtype)
    none = share == 0
    is_own = share is not target and _observers.is_plain(loss, share)
    product = share.mul_(loss) if is_own else share * loss
    return product.masked_fill_(none, 0)


def _keep_target(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, target, weight, ctx.share_of = inputs
    ctx.save_for_backward(target, weight)


def _times_share(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    target, weight = ctx.saved_tensors
    return grad * ctx.share_of(target, weight, grad.dtype), None, None, None


# Keeps no map but the target, of which it makes the shares once more.
_differentiable_product = _autograd.function("ShareOfPixels", _product, _keep_target, _times_share)


def _of_ones(target: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    target = target.to(dtype)
    return target if weight is None else target * weight


def _of_zeros(target: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    return 1 - target.to(dtype)


def _of_labels(target: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert weight is not None  # which has that dtype
    return torch.where(target == 1, weight, 1)


class MaskPixels:
    """Masks (N, Q, H, W), and scores that are taken to their size."""

    def __init__(
        self,
        input: Tensor,
        target: Tensor,
        geometry: Geometry,
        ignore_index: int,
        gamma: float | None = None,
    ) -> None:
        _common.on_same_device(input, "input", target, "target")
        numbers = _common.is_geometry(geometry).numbers
        _mask_rules.check_sigmoid_sums(input, target, numbers, gamma)
        self._gamma = gamma or 0.0
        self.target = target.to(torch.uint8) if target.dtype == torch.bool else target
        self._input = input
        self._geometry = geometry
        ignore_index = _common.integer(ignore_index, "ignore_index")
        self._ignore_index = NO_VOID if target.is_floating_point() else ignore_index

    def cross_entropy(self, pos_weight: Tensor | None) -> Tensor:
        """The loss of each pixel, (N, Q, H, W); ``pos_weight``, (Q,) or (), is the weight of
        targets of one."""
        target = self.target
        weight = None if pos_weight is None else pos_weight.view(-1, 1, 1)
        if not target.is_floating_point():
            loss = self._losses(target.flatten(0, 1))
            return loss if weight is None else _times(target, weight, loss, _of_labels)
        self._check_values()
        # One after the other, so that the loss of each label is gone before the next one comes.
        ones = _times(target, weight, self._losses(every_pixel(1, target)), _of_ones)
        zeros = _times(target, None, self._losses(every_pixel(0, target)), _of_zeros)
        return ones + zeros

    def focal(self, alpha: float | None) -> Tensor:
        """The focal loss of each pixel, for labels."""
        loss = self._losses(self.target.flatten(0, 1))
        if alpha is None:
            return focused(loss, self._gamma)
        # Not torch.tensor, which on CUDA copies from the host and waits.
        shares = [
            torch.full((), share, dtype=loss.dtype, device=loss.device)
            for share in (1 - alpha, alpha)
        ]
        return focused(loss, self._gamma, torch.stack(shares), self.target)

    def _losses(self, labels: Tensor) -> Tensor:
        try:
            loss = pixel_losses(self._input, labels, self._geometry, self._ignore_index)
        except ValueError:
            self._check_values()  # whose message has the rule for masks, and the place
            raise
        return loss.view(self.target.shape)

    def _check_values(self) -> None:
        """Raises ValueError if a target is out of range. Only on the CPU, since elsewhere this
        would wait for the device, and only if there are values: not under a compiler or a
        transform."""
        target, void = self.target, self._ignore_index
        if not (target.is_cpu and _observers.has_values(target)):
            return
        if target.is_floating_point():
            right, rule = (target >= 0) & (target <= 1), "in [0, 1]"
        else:
            right, rule = (target == 0) | (target == 1), f"0, 1 or ignore_index = {void}"
            if _pixels.holds(target.dtype, void):
                right |= target == void
        if not right.all():
            n, q, row, column = place = tuple((~right).nonzero()[0].tolist())
            found = _common.number_text(target[place].item())
            raise ValueError(
                f"target must be {rule}, got {found} at batch index {n}, mask {q}, row {row}, "
                f"column {column}"
            )
