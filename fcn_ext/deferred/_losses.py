"""Cross-entropy straight from coarse scores, by torch's own names for its parts.

``F.cross_entropy`` is ``log_softmax`` and ``nll_loss`` for torch too. The first stays deferred, the
second is computed together with the gradient, and both have their own nodes in the graph: a second
derivative, or a hook between them, meets torch's formulas. Label smoothing, which torch makes of
many parts, is one function here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.deferred._gradient import gradient_of
from fcn_ext.deferred._predictions import scores_over
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._tensor import (
    FUNCTIONS,
    DeferredLogits,
    as_ordinary,
    handles,
    ordinary,
)
from fcn_ext.ops import _common, _cross_entropy

aten = torch.ops.aten
_ops = torch.ops.fcn_ext

_REDUCTIONS = ("none", "mean", "sum")
_NONE, _MEAN, _SUM = range(3)
"""torch's numbers for them."""
_LABELS = (torch.uint8, torch.int16, torch.int32, torch.int64)


# Not public in torch. Without it a checkpoint may refuse what its recomputation saves.
_saved_tensors_hooks = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None
)


def _targets(
    logits: Any, target: Any, dtypes: tuple[torch.dtype, ...] = (torch.int64,)
) -> Tensor | None:
    """Labels for the pixels of ``logits``, whose dimension 1 are the classes, as (N, H, W)."""
    if type(target) is not Tensor or target.dtype not in dtypes or target.numel() == 0:
        return None
    if target.device != logits.device:
        return None
    if target.shape != (*logits.shape[:1], *logits.shape[2:]):
        return None
    return logits.recipe.layout.to_map(target)  # type: ignore[no-any-return]


def _weights(logits: Any, weight: Any, dtype: torch.dtype | None = None) -> bool:
    """Whether class weights are such as torch takes."""
    return weight is None or (
        type(weight) is Tensor
        and weight.dtype == (dtype or logits.dtype)
        and weight.device == logits.device
        and weight.shape == (logits.shape[1],)
        and not weight.requires_grad
    )


def _loss(
    scores: Tensor,
    snapshot: Snapshot,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    label_smoothing: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Loss, total weight and gradient; None where torch has more to say of it: a label is out of
    range, or the loss is not finite."""
    if weight is not None:
        weight = weight.to(_common.accumulate_dtype(scores))
    arguments = (scores, target, snapshot.numbers, weight, ignore_index, label_smoothing)
    try:
        if reduction == _NONE:
            loss = _ops.cross_entropy_pixels.default(*arguments)
            return loss, loss.new_zeros(()), None
        loss, total, gradient = _ops.cross_entropy.default(
            *arguments, reduction == _MEAN, with_gradient
        )
    except ValueError:
        return None
    # Of void pixels alone the mean is 0 / 0 for torch as well, and no gradient differs.
    is_void = weight is None and reduction == _MEAN
    if loss.is_cpu and not loss.isfinite() and not (is_void and not total):
        return None
    return loss, total, gradient


def _pixel_gradient(
    grad: Tensor,
    scores: Tensor,
    snapshot: Snapshot,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    dtype = _common.accumulate_dtype(scores)
    weight = None if weight is None else weight.to(dtype)
    gradient: Tensor = _ops.cross_entropy_pixels_backward.default(
        grad.to(dtype), scores, target, snapshot.numbers, weight, ignore_index, label_smoothing
    )
    return gradient


def _is_finite(grad: Tensor) -> bool:
    """Whether a gradient is known to be: zero times infinity is not zero for torch."""
    return not grad.is_cpu or bool(grad.isfinite().all())


@handles(aten.nll_loss2d_forward.default, aten.nll_loss_forward.default)
def _nll(func: Any, self: Any, target: Any, weight: Any, reduction: int, ignore_index: int) -> Any:
    found = scores_over(self, 1) if isinstance(self, DeferredLogits) and self.dim() > 1 else None
    if found is None or found[0].kind != "log_softmax" or not _weights(self, weight):
        return NotImplemented
    recipe, snapshot, scores = found
    labels = _targets(self, target)
    if labels is None:
        return NotImplemented
    with_gradient = self.requires_grad and torch.is_grad_enabled()
    arguments = (scores, snapshot, labels, weight, reduction, ignore_index, 0.0)
    computed = _loss(*arguments, with_gradient)
    if computed is None:
        return NotImplemented
    loss, total, gradient = computed
    total = total.to(self.dtype)
    if reduction == _NONE:
        return recipe.layout.from_map(loss, target.shape).to(self.dtype), total
    if gradient is not None and with_gradient:
        recipe.memory.losses[total.data_ptr()] = (total, gradient)
    return loss.to(self.dtype), total


@handles(aten.nll_loss2d_backward.default, aten.nll_loss_backward.default)
def _nll_backward(
    func: Any,
    grad: Any,
    self: Any,
    target: Any,
    weight: Any,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
) -> Any:
    if not isinstance(self, DeferredLogits) or type(grad) is not Tensor or not _is_finite(grad):
        return NotImplemented
    recipe = self.recipe
    if reduction != _NONE:
        known = recipe.memory.losses.get(total_weight.data_ptr())
        if known is None:
            return NotImplemented
        coarse = known[1] * grad.to(known[1].dtype)
    else:
        found = scores_over(self, 1) if self.dim() > 1 else None
        labels = None if found is None else _targets(self, target)
        if found is None or labels is None or recipe.kind != "log_softmax":
            return NotImplemented
        _, snapshot, scores = found
        pixels = recipe.layout.to_map(grad)
        coarse = _pixel_gradient(pixels, scores, snapshot, labels, weight, ignore_index, 0.0)

    def compute() -> Tensor:
        others = (target, weight, reduction, ignore_index, total_weight)
        full: Tensor = func(grad, recipe.ordinary(), *others)
        return full

    return gradient_of(self, "log_softmax", coarse, compute)


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
        labels = None if found is None else _targets(frozen, target, _LABELS)
        if found is None or labels is None or not _is_finite(grad):
            return plain(), None, None
        if options.reduction == "none":
            recipe, snapshot, scores = found
            numbers = (weight, options.ignore_index, options.label_smoothing)
            pixels = recipe.layout.to_map(grad)
            coarse = _pixel_gradient(pixels, scores, snapshot, labels, *numbers)
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
    if found is None or found[0].kind != "logits" or options.reduction not in _REDUCTIONS:
        return NotImplemented
    recipe, snapshot, scores = found
    labels = _targets(logits, options.target, dtypes)
    if labels is None:
        return NotImplemented
    differentiated = logits.requires_grad and torch.is_grad_enabled()
    if differentiated and _saved_tensors_hooks(True) is not None:
        # A checkpoint counts what is saved, and its recomputation may run elsewhere.
        return NotImplemented
    reduction = _REDUCTIONS.index(options.reduction)
    with torch.no_grad():
        numbers = (options.weight, reduction, options.ignore_index, options.label_smoothing)
        computed = _loss(scores, snapshot, labels, *numbers, differentiated)
        if computed is None:
            return NotImplemented
        loss, _, gradient = computed
        if reduction == _NONE:
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
    if not _weights(input, weight):
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
    if not 0 <= label_smoothing <= 1 or not _weights(
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
