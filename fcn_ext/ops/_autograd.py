"""How calls of operators are differentiated.

An operator's gradient is registered with torch.library, for graphs (torch.compile, torch.export)
and for direct calls of ``torch.ops.fcn_ext``. What torch.library makes of it passes through Python
twice per call, is refused by torch.func and silently drops forward-mode tangents. Eager calls that
need a gradient therefore apply an autograd function made here, in half the time; other calls go
below autograd.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function

from fcn_ext.ops._observers import _forward_mode, _is_tracing, _transforms_active

# Not public in torch. Without it calls are slower, but not wrong.
_below_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)


def _traced(op: Any, args: tuple[Any, ...]) -> Any:
    """The call that torch.jit.trace records. It is made on one line of source, with gradients or
    without, or the trace would differ from the one that checks it."""
    warnings.warn(
        f"torch.jit.trace records sizes that follow from those of the maps of {op._schema.name} as "
        "constants; torch.export keeps them dynamic",
        torch.jit.TracerWarning,  # type: ignore[attr-defined]
        stacklevel=4,
    )
    return op(*args)


def _no_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _without_wrapper(op: Any) -> Any:
    """The function of torch._C that ``op`` wraps, which saves a Python call."""
    return getattr(op, "_op", op)


def _named(call: Any, op: Any) -> Callable[..., Any]:
    """``call`` with the name of ``op``, which is what a __torch_function__ sees."""
    call.__name__ = call.__qualname__ = op._schema.name
    return call  # type: ignore[no-any-return]


def differentiable(
    op: Any,
    backward: Callable[..., Any],
    setup_context: Any = _no_context,
    jvp: Any = None,
    eager_backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Registers the gradient of ``op``, and returns what Python calls in its place.

    Args:
        op: an overload of the library.
        backward: (ctx, *gradients of results) -> gradients of arguments.
        setup_context: (ctx, arguments, results): keeps what ``backward`` and ``jvp`` need.
        jvp: (ctx, *tangents of arguments) -> tangents of results, for forward mode; without it
            forward mode is refused with the name of ``op``.
        eager_backward: instead of ``backward``, for eager calls outside of torch.func.
    """
    torch.library.register_autograd(op._schema.name, backward, setup_context=setup_context)

    call_op = _without_wrapper(op)

    def eager_forward(ctx: Any, *args: Any) -> Any:
        with _below_autograd():
            output = call_op(*args)
        setup_context(ctx, args, output)
        return output

    def transformed_forward(*args: Any) -> Any:
        return op(*args)

    # Named as torch names nodes, such as <UpsampleBackward>.
    name = "".join(word.capitalize() for word in op._schema.name.split("::")[1].split("_"))
    shared = {
        "backward": staticmethod(backward),
        "jvp": staticmethod(jvp or _without_forward_mode(op._schema.name)),
    }
    eager: Any = type(
        name,
        (torch.autograd.Function,),
        {
            "forward": staticmethod(eager_forward),
            **shared,
            "backward": staticmethod(eager_backward or backward),
        },
    )
    # The style that torch.func requires, with forward and setup_context separate.
    transformed: Any = type(
        name,
        (torch.autograd.Function,),
        {
            "forward": staticmethod(transformed_forward),
            "setup_context": staticmethod(setup_context),
            "generate_vmap_rule": True,
            **shared,
        },
    )

    refusal = f"{op._schema.name} has no forward mode in compiled code"

    # As few Python functions as possible: each costs microseconds when caches are cold, as they are
    # after every map that is larger than the caches.
    def call(*args: Any) -> Any:
        if is_dynamo_compiling():
            if _forward_mode._current_level >= 0:
                raise RuntimeError(refusal)
            return op(*args)
        if has_torch_function(args):
            return handle_torch_function(call, args, *args)
        if _transforms_active():
            return transformed.apply(*args)
        if _forward_mode._current_level < 0:
            if _is_tracing():
                return _traced(op, args)
            differentiated = False
            if is_grad_enabled():
                for arg in args:
                    if isinstance(arg, Tensor) and arg.requires_grad:
                        differentiated = True
            if not differentiated:
                with _below_autograd():
                    return call_op(*args)
            # Not earlier: is_compiling is true in all threads while one compiles.
            if torch.compiler.is_compiling():
                return op(*args)
        return eager.apply(*args)

    return _named(call, op)


def function(
    name: str,
    forward: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """``forward`` with a gradient of its own, in the style that torch.func asks for where that
    looks on; in the other, which costs microseconds less, elsewhere.

    Args:
        name: of the node of the graph.
        forward: makes tensors by torch's functions.
        setup_context, backward: as in :func:`differentiable`.
    """

    def eager_forward(ctx: Any, *args: Any) -> Any:
        output = forward(*args)
        setup_context(ctx, args, output)
        return output

    # Neither has a jvp, which torch.compile refuses: nor has what they are made of.
    of_eager = {"forward": eager_forward, "backward": backward}
    of_transforms = {"forward": forward, "setup_context": setup_context, "backward": backward}
    eager: Any
    transformed: Any
    eager, transformed = (
        type(name, (torch.autograd.Function,), {key: staticmethod(f) for key, f in style.items()})
        for style in (of_eager, of_transforms)
    )
    transformed.generate_vmap_rule = True

    def call(*args: Any) -> Any:
        if is_dynamo_compiling() or _transforms_active():
            return transformed.apply(*args)
        return eager.apply(*args)

    return call


def _without_forward_mode(operator: str) -> Callable[..., Any]:
    """A jvp that refuses: torch's own message names neither the operator nor a way out."""

    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            f"{operator} has no forward mode AD: differentiate it in reverse mode, as "
            "tensor.backward(), torch.func.grad and torch.func.jacrev do"
        )

    return jvp


def scaled_once(operator: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Functions that scale a gradient that the forward pass of ``operator`` computed.

    Returns two functions of (grad, gradient, input), which multiply gradient by grad, of its first
    dimensions or (), in the dtype of input. The first leaves a node in the graph that refuses a
    second derivative, which would otherwise be missing; the second leaves none.
    """

    class ScaledOnce(torch.autograd.Function):
        generate_vmap_rule = True
        jvp = staticmethod(_without_forward_mode(f"the gradient of {operator}"))

        @staticmethod
        def forward(grad: Tensor, gradient: Tensor, input: Tensor) -> Tensor:
            # Reshaped, since vmap over zero examples cannot find the dtype of a product with a
            # scalar.
            shape = (*grad.shape, *[1] * (gradient.dim() - grad.dim()))
            return (gradient * grad.reshape(shape)).to(input.dtype)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            raise differentiable_once(operator)

    return ScaledOnce.apply, ScaledOnce.forward


def differentiable_once(operator: str) -> RuntimeError:
    return RuntimeError(
        f"{operator} is differentiable once, but its second derivative was asked for"
    )


def linear(
    op: Any, num_maps: int, backward: Callable[..., Any], setup_context: Any
) -> Callable[..., Any]:
    """:func:`differentiable` for ``op`` that is linear in its first ``num_maps`` arguments."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.numbers = inputs[num_maps:]
        setup_context(ctx, inputs, output)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        return call(*tangents[:num_maps], *ctx.numbers)

    call = differentiable(op, backward, setup, jvp)
    return call


def constant(op: Any) -> Callable[..., Any]:
    """:func:`differentiable` for ``op`` whose results have no derivative by definition: labels and
    their probability."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.num_inputs = len(inputs)

    def backward(ctx: Any, *grads: Any) -> Any:
        return (None,) * ctx.num_inputs

    torch.library.register_autograd(op._schema.name, backward, setup_context=setup_context)

    call_op = _without_wrapper(op)

    def call(*args: Any) -> Any:
        if is_dynamo_compiling():
            return op(*args)
        if has_torch_function(args):
            return handle_torch_function(call, args, *args)
        if _transforms_active():
            return op(*(arg.detach() if isinstance(arg, Tensor) else arg for arg in args))
        if _is_tracing():
            return _traced(op, args)
        with _below_autograd():
            return call_op(*args)

    return _named(call, op)
