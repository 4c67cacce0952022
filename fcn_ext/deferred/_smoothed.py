"""Cross-entropy as one node of the graph: with label smoothing, which torch makes of many parts,
and as the loss of this package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.deferred._gradient import gradient_of
from fcn_ext.deferred._losses import (
    NONE,
    REDUCTIONS,
    is_finite,
    loss_of,
    pixel_gradient,
    targets,
    weights_fit,
)
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits, as_ordinary, ordinary
from fcn_ext.ops import _common, _cross_entropy

aten = torch.ops.aten

_LABELS = (torch.uint8, torch.int16, torch.int32, torch.int64)

# Not public in torch. Without it a checkpoint may refuse what its recomputation saves.
saved_tensors_hooks = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None
)


class CrossEntropy(torch.autograd.Function):
    """Cross-entropy of deferred logits as one node: with label smoothing, or as our own loss."""

    @staticmethod
    def forward(ctx: Any, logits: Any, options: _Options, computed: list[Any]) -> Tensor:
        ctx.logits, ctx.version, ctx.options = logits, logits._version, options
        gradient = computed.pop()
        frozen = aten.clone.default(logits)
        ctx.save_for_backward(frozen, options.target, options.weight, gradient)
        options.target = options.weight = None
        loss: Tensor = computed.pop()
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        frozen, target, weight, gradient = ctx.saved_tensors
        options: _Options = replace(ctx.options, target=target, weight=weight)
        if torch.is_grad_enabled():
            return _differentiable_gradient(ctx, options, grad), None, None

        def plain() -> Tensor:
            # Asked for below autograd, which this turns on again, too.
            with torch.inference_mode(False), torch.enable_grad():
                full = ordinary(frozen).detach().requires_grad_()
                full_grad: Tensor = torch.autograd.grad(options.plain_loss(full), full, grad)[0]
                return full_grad

        found = scores_over(frozen, 1)
        labels = None if found is None else targets(frozen, target, _LABELS)
        if found is None or labels is None or not is_finite(grad):
            return plain(), None, None
        if options.reduction == "none":
            recipe, snapshot, scores = found
            numbers = (weight, options.ignore_index, options.label_smoothing)
            pixels = recipe.layout.to_map(grad)
            coarse = pixel_gradient(pixels, scores, snapshot, labels, *numbers)
        else:
            coarse = gradient * grad.to(gradient.dtype)
        return gradient_of(frozen, "logits", coarse, plain), None, None


@dataclass(eq=False)
class _Options:
    """The arguments of ``F.cross_entropy``, and the dtype of its result."""

    target: Tensor | None
    weight: Tensor | None
    ignore_index: int
    reduction: str
    label_smoothing: float
    dtype: torch.dtype

    def plain_loss(self, logits: Tensor) -> Tensor:
        """By torch's formula."""
        assert self.target is not None
        loss = F.cross_entropy(
            logits,
            self.target.to(torch.int64),
            weight=self.weight if self.weight is None else self.weight.to(logits.dtype),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
        return loss.to(self.dtype)


def _differentiable_gradient(ctx: Any, options: _Options, grad: Tensor) -> Tensor:
    """The gradient at full size, for a second derivative."""
    if ctx.logits._version != ctx.version:
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            "operation: the logits of a cross-entropy that is differentiated twice"
        )
    logits = as_ordinary(ctx.logits)
    (result,) = torch.autograd.grad(options.plain_loss(logits), logits, grad, create_graph=True)
    return result


def _one_node(logits: Any, options: _Options, dtypes: tuple[torch.dtype, ...]) -> Any:
    """The loss of deferred logits as one node of the graph, or NotImplemented."""
    found = scores_over(logits, 1) if isinstance(logits, DeferredLogits) else None
    if found is None or found[0].kind != "logits" or options.reduction not in REDUCTIONS:
        return NotImplemented
    recipe, snapshot, scores = found
    labels = targets(logits, options.target, dtypes)
    if labels is None:
        return NotImplemented
    differentiated = logits.requires_grad and torch.is_grad_enabled()
    if differentiated and saved_tensors_hooks(True) is not None:
        # A checkpoint counts what is saved, and its recomputation may run elsewhere.
        return NotImplemented
    reduction = REDUCTIONS.index(options.reduction)
    with torch.no_grad():
        numbers = (options.weight, reduction, options.ignore_index, options.label_smoothing)
        computed = loss_of(scores, snapshot, labels, *numbers, differentiated)
        if computed is None:
            return NotImplemented
        loss, _, gradient = computed
        if reduction == NONE:
            assert options.target is not None
            loss = recipe.layout.from_map(loss, options.target.shape)
            loss = loss.clone() if recipe.layout.is_map else loss  # no view of another tensor
        loss = loss.to(options.dtype)
    return CrossEntropy.apply(logits, options, [loss, gradient]) if differentiated else loss


def _smoothed(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """``F.cross_entropy`` with label smoothing; without, torch takes it apart as always."""
    if not (0 < label_smoothing <= 1 and size_average is None and reduce is None):
        return NotImplemented
    if not isinstance(input, DeferredLogits):
        return NotImplemented
    if torch.is_autocast_enabled(input.device.type) and input.dtype != torch.float64:
        input = input.float()  # as autocast does with this function
        weight = weight.float() if isinstance(weight, Tensor) else weight
    if not weights_fit(input, weight):
        return NotImplemented
    options = _Options(target, weight, ignore_index, reduction, label_smoothing, input.dtype)
    return _one_node(input, options, (torch.int64,))


def _own(
    input: Any,
    target: Any,
    geometry: tuple[int, ...],
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    mean: bool | None = None,
    with_gradient: bool = False,
) -> Any:
    """``ops.cross_entropy`` of logits that have the size of the target already."""
    if len(geometry) != 1 or not isinstance(input, DeferredLogits):
        return NotImplemented
    if not 0 <= label_smoothing <= 1 or not weights_fit(
        input, weight, _common.accumulate_dtype(input)
    ):
        return NotImplemented
    reduction = "none" if mean is None else "mean" if mean else "sum"
    dtype = _common.accumulate_dtype(input)
    options = _Options(target, weight, ignore_index, reduction, label_smoothing, dtype)
    loss = _one_node(input, options, _LABELS) if input.recipe.layout.is_map else NotImplemented
    return loss if loss is NotImplemented or mean is None else (loss, None, None)


FUNCTIONS[F.cross_entropy] = _smoothed
FUNCTIONS[_cross_entropy._cross_entropy] = _own
FUNCTIONS[_cross_entropy._cross_entropy_pixels] = _own
