"""Who sees what is computed: autograd, a compiler, a trace, a transform of torch.func."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

# Not public in torch. Without them calls are slower, but not wrong.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_is_tracing = getattr(torch._C, "_is_tracing", torch.jit.is_tracing)  # type: ignore[attr-defined]
# For torch.autograd.grad(is_grads_batched=True), which is not a transform of torch.func.
_is_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda tensor: True)
_is_wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda tensor: False)
_is_batch = getattr(torch._C._functorch, "is_batchedtensor", lambda tensor: False)
_unwrapped = getattr(torch._C._functorch, "get_unwrapped", None)
_dispatch_mode = getattr(torch._C, "_get_dispatch_mode", lambda key: None)
_PROXY = getattr(getattr(torch._C, "_TorchDispatchModeKey", None), "PROXY", None)
# Others, such as fake tensors, may have no memory.
_ORDINARY = (Tensor, torch.nn.Parameter)
_forward_mode = (
    forward_ad if hasattr(forward_ad, "_current_level") else SimpleNamespace(_current_level=0)
)


def is_plain(*tensors: Tensor) -> bool:
    """Whether these are tensors outside of transforms and compilers, so that one may be changed in
    place without autograd noticing.

    Modes that see torch's functions, such as that of a default device, are allowed: they see
    ordinary tensors.
    """
    return not is_grad_enabled() and _is_seen_by_none(tensors)


def _is_seen_by_none(tensors: tuple[Tensor, ...]) -> bool:
    """Whether these are tensors outside of transforms and compilers."""
    return not (
        is_dynamo_compiling()
        or _transforms_active()
        or any(map(_is_batched, tensors))
        or not all(type(tensor) in _ORDINARY for tensor in tensors)
        or torch.compiler.is_compiling()
    )


def has_values(*tensors: Tensor) -> bool:
    """Whether values of these tensors may be read, so far as they are on the host: not while
    make_fx or torch.jit.trace records what is computed, which makes constants of what is read."""
    return _is_seen_by_none(tensors) and not is_traced() and _dispatch_mode(_PROXY) is None


def is_traced() -> bool:
    """Whether torch.jit.trace records what is computed."""
    return not is_dynamo_compiling() and bool(_is_tracing())


def is_looked_into() -> bool:
    """Whether a compiler, a trace, a transform of torch.func or forward mode sees what is computed,
    so that a tensor's ``requires_grad`` does not tell all."""
    return (
        is_dynamo_compiling()
        or bool(_is_tracing())
        or bool(_transforms_active())
        or _forward_mode._current_level >= 0
    )


def asks_for_gradient(value: Tensor) -> bool:
    """Whether a gradient of ``value`` is asked for here or by a transform around this one, or
    whether it has a tangent of forward mode."""
    if value.requires_grad and is_grad_enabled():
        return True
    if is_dynamo_compiling():
        return False
    transformed = _transforms_active()
    if not transformed and _forward_mode._current_level < 0:
        return False
    # What vmap has batched does not tell that grad or jvp, around it, is to differentiate it.
    while True:
        if not _is_batch(value) and _has_tangent(value):
            return True
        if not (transformed and _is_wrapped(value) and _unwrapped):
            return False
        value = _unwrapped(value)
        if value.requires_grad and is_grad_enabled():
            return True


def _has_tangent(value: Tensor) -> bool:
    if _forward_mode._current_level < 0 or not value.is_floating_point():
        return False
    return forward_ad.unpack_dual(value).tangent is not None


def is_differentiated(input: Tensor) -> bool:
    """Whether a gradient of ``input`` may be asked for, so far as it tells. Not of what
    torch.jit.trace records, which checks a trace by one without gradients."""
    return input.requires_grad and is_grad_enabled() and not is_traced()
