"""A function of deferred logits as a single node of the graph, where torch would have several, or
would differentiate it by operators on the full tensor."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._gradient import gradient_of
from fcn_ext.deferred._tensor import as_ordinary, ordinary
from fcn_ext.ops._observers import _transforms_active

__all__ = ["Form", "OneNode", "may_be_one_node"]

aten = torch.ops.aten

# Not public in torch. Without it a checkpoint may refuse what its recomputation saves.
saved_tensors_hooks = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None
)


class Form(Protocol):
    """What a node computes. ``tensors`` are those that the node was given, or None."""

    @property
    def contiguous_gradient(self) -> bool:
        """Whether torch's gradient is contiguous whatever the strides of the logits."""
        ...

    def plain(self, logits: Tensor, *tensors: Tensor | None) -> Tensor:
        """The result for ordinary logits, by torch's formulas, differentiable twice."""
        ...

    def coarse(self, logits: Any, grad: Tensor, *tensors: Tensor | None) -> Tensor | None:
        """The gradient of the scores behind deferred ``logits``; None if it could differ from
        torch's."""
        ...


class OneNode(torch.autograd.Function):
    """The node. ``computed`` holds the result, which ``forward`` takes out of it."""

    @staticmethod
    def forward(
        ctx: Any, logits: Any, form: Form, tensors: list[Tensor | None], computed: list[Tensor]
    ) -> Tensor:
        ctx.logits, ctx.version, ctx.form = logits, logits._version, form
        ctx.save_for_backward(aten.clone.default(logits), *tensors)
        tensors.clear()
        return computed.pop()

    @staticmethod
    @uncompiled
    def backward(ctx: Any, grad: Tensor) -> Any:
        frozen, *tensors = ctx.saved_tensors
        form: Form = ctx.form
        if torch.is_grad_enabled():
            return _differentiable_gradient(ctx, tensors, grad), None, None, None

        def plain() -> Tensor:
            # This runs below autograd, which is turned on again.
            with torch.inference_mode(False), torch.enable_grad():
                # A parameter, as torch.func forbids requires_grad_() while it transforms.
                full = torch.nn.Parameter(ordinary(frozen).detach())
                result = form.plain(full, *tensors)
                full_grad: Tensor = torch.autograd.grad(result, full, grad)[0]
                return full_grad

        coarse = form.coarse(frozen, grad, *tensors)
        if coarse is None:
            return plain(), None, None, None
        contiguous = form.contiguous_gradient
        reads = (grad, *(tensor for tensor in tensors if tensor is not ctx.logits))
        kind = frozen.recipe.kind
        result = gradient_of(frozen, kind, coarse, plain, reads, contiguous=contiguous)
        return result, None, None, None


def _differentiable_gradient(ctx: Any, tensors: list[Tensor | None], grad: Tensor) -> Tensor:
    """The gradient at full size, for a second derivative."""
    if ctx.logits._version != ctx.version:
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            "operation: the logits of a loss that is differentiated twice"
        )
    logits = as_ordinary(ctx.logits)
    result = ctx.form.plain(logits, *tensors)
    (gradient,) = torch.autograd.grad(result, logits, grad, create_graph=True)
    return gradient


def may_be_one_node(logits: Tensor) -> tuple[bool, bool]:
    """Whether the logits are differentiated, and whether a node of ours may do it. Not inside a
    checkpoint, which counts saved tensors and may recompute outside of the context, and not in a
    transform of torch.func, which refuses such nodes."""
    differentiated = logits.requires_grad and torch.is_grad_enabled()
    if _transforms_active():
        return differentiated, False
    return differentiated, not (differentiated and saved_tensors_hooks(True) is not None)
