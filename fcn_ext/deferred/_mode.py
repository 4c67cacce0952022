"""The context in which ``F.interpolate`` is deferred."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from fcn_ext._library import cuda_problem
from fcn_ext._rules import check_axes
from fcn_ext._uncompiled import uncompiled
from fcn_ext.deferred._gradient import DeferredGradient
from fcn_ext.deferred._interpolate_arguments import dtype_under_autocast, resized_size
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._memory import Memory
from fcn_ext.deferred._predictions import coarse_of
from fcn_ext.deferred._recipe import Logits
from fcn_ext.deferred._resized_twice import resized_twice
from fcn_ext.deferred._snapshot import Snapshot, is_batched, outside_modes
from fcn_ext.deferred._strides import is_channels_last, laid_out, resized_twin
from fcn_ext.deferred._tensor import DeferredLogits, ordinary
from fcn_ext.geometry import Resize
from fcn_ext.ops import _common
from fcn_ext.ops._interpolate import _interpolate_backward
from fcn_ext.ops._observers import _forward_mode, _is_tracing, _transforms_active

__all__ = ["deferred_interpolate", "fused_upsampling"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Interpolate(torch.autograd.Function):
    """The node between scores and deferred logits."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        logits = _deferred(scores, size, align_corners)
        snapshot = logits.recipe.snapshot
        assert snapshot is not None
        ctx.origin, ctx.align_corners = snapshot.origin, align_corners
        ctx.shape, ctx.dtype = scores.shape, scores.dtype
        ctx.set_materialize_grads(False)
        return logits

    @staticmethod
    @uncompiled
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        if grad is None:
            return None, None, None
        if is_batched(grad):
            return _interpolate_backward(grad, *ctx.shape[2:], ctx.align_corners), None, None
        coarse = None
        if isinstance(grad, DeferredGradient) and not torch.is_grad_enabled():
            coarse = grad.recipe.gathered(ctx.origin, ctx.shape)
        if coarse is None:
            coarse = _interpolate_backward(grad, *ctx.shape[2:], ctx.align_corners)
            if coarse.is_cpu and not math.isfinite(coarse.detach().sum().item()):
                # Infinite or NaN: torch also multiplies these by weights of zero.
                sizes = grad.shape[2:], ctx.shape, ctx.align_corners
                coarse = torch.ops.aten.upsample_bilinear2d_backward.default(grad, *sizes)
        twin = resized_twin(tuple(grad.shape), grad.stride(), ctx.dtype, tuple(ctx.shape[2:]))
        return laid_out(coarse.to(ctx.dtype), twin), None, None


def _deferred(scores: Any, size: tuple[int, int], align_corners: bool) -> DeferredLogits:
    snapshot: Snapshot | None = None
    if isinstance(scores, DeferredLogits):
        snapshot = resized_twice(scores.recipe, size, align_corners)
    if snapshot is None:
        with outside_modes():
            snapshot = Snapshot(ordinary(scores).detach().clone(), size, Resize(align_corners))
    twin = resized_twin(tuple(scores.shape), scores.stride(), scores.dtype, size)
    layout = Layout.of_map(twin.shape)

    def full() -> Tensor:
        return laid_out(snapshot.resized(layout), twin)

    memory = Memory(full, layout, "logits", snapshot, is_resized=snapshot.is_larger)
    return DeferredLogits(Logits(memory, (), layout, "logits", twin, scores.device))


def _is_deferrable(input: Any) -> bool:
    """Whether ``input`` is an ordinary map, in eager code without transforms, tracing or modes."""
    return (
        not is_dynamo_compiling()
        and type(input) in (Tensor, torch.nn.Parameter, DeferredLogits)
        and input.dim() == 4
        and input.dtype in _FLOATING
        and (input.device.type == "cpu" or (input.is_cuda and cuda_problem is None))
        and input.layout == torch.strided
        and input.numel() > 0
        and not _transforms_active()
        and _forward_mode._current_level < 0
        and not _is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.compiler.is_compiling()
        and not torch._is_functional_tensor(input)  # whose elements nothing below may read
    )


def defer(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> DeferredLogits | None:
    """``F.interpolate``, deferred; or None if it is left to torch."""
    if mode != "bilinear" or antialias or not _is_deferrable(input):
        return None
    # torch refuses numbers that equal a bool.
    if not isinstance(align_corners, (bool, type(None))) or not isinstance(
        size, (int, tuple, list, type(None))
    ):
        return None
    aligned = bool(align_corners)
    resized = resized_size(input, size, scale_factor, aligned, recompute_scale_factor)
    if resized is None:
        return None
    dtype = dtype_under_autocast(input)
    if resized == input.shape[2:]:
        return _copied(input) if dtype == input.dtype else None
    is_smaller = any(new < old for new, old in zip(resized, input.shape[2:], strict=True))
    if is_smaller and not _is_deferred_again(input, resized, aligned):
        return None
    if dtype != input.dtype:
        input = input.to(dtype)
    if input.requires_grad and torch.is_grad_enabled():
        return Interpolate.apply(input, resized, aligned)  # type: ignore[no-any-return]
    return _deferred(input, resized, aligned)


def _is_deferred_again(input: Tensor, size: tuple[int, int], align_corners: bool) -> bool:
    """Whether ``input`` is deferred, too, and may become smaller."""
    if not isinstance(input, DeferredLogits):
        return False
    return resized_twice(input.recipe, size, align_corners) is not None


def _copied(input: Tensor) -> DeferredLogits | None:
    """A map at the size that it has, of which torch makes a copy. Deferred logits stay deferred:
    code often resizes to the size of the labels what its net has resized already."""
    found = coarse_of(input)
    if found is None:
        return None
    twin = found[0].twin
    shape, stride = tuple(twin.shape), twin.stride()
    format = torch.channels_last if is_channels_last(shape, stride) else torch.contiguous_format
    return input.clone(memory_format=format)  # type: ignore[return-value]


class fused_upsampling(TorchFunctionMode):
    """A context in which bilinear upsampling is deferred: losses and labels of upsampled scores are
    computed straight from the coarse scores, in a fraction of the time and memory.

        >>> import torch.nn.functional as F
        >>> scores = torch.randn(2, 21, 32, 32, requires_grad=True)
        >>> target = torch.randint(0, 21, (2, 256, 256))
        >>> with fused_upsampling():
        ...     logits = F.interpolate(scores, size=(256, 256), mode="bilinear")
        ...     loss = F.cross_entropy(logits, target)
        >>> type(logits).__name__, tuple(logits.shape)
        ('DeferredLogits', (2, 21, 256, 256))
        >>> loss.backward()

    ``F.interpolate`` with ``mode="bilinear"``, whichever library calls it, returns a
    :class:`DeferredLogits` if its input is a map (N, C, h, w) on the CPU or a CUDA device and is
    not made smaller or antialiased. In all other cases torch does what it always does.

    These are computed from the coarse scores: ``F.cross_entropy`` with class labels or, reduced,
    with probabilities, ``F.nll_loss`` of ``log_softmax``, ``F.binary_cross_entropy_with_logits``,
    ``argmax``, ``max``, ``amax`` and ``topk(1)`` over the classes and ``gather`` of one class per
    pixel, also of ``softmax``, sums of ``log_softmax`` over the classes, comparisons of logits or
    of their ``sigmoid`` with a number, and the losses, heads, predictions and metrics of this
    package, also of images, classes or crops that are taken from the logits, as by
    ``logits[:, 1:]``, ``split`` or ``logits[:, :, :h, :w]``. Of logits that are resized again, also
    to a smaller size, these are predictions and counts, some rows at a time. Anything else computes
    the full tensor. Results differ from those of the plain code only by rounding.

    It is a context manager and a decorator, for one step or a whole program; it may be nested and
    used again. It applies only to the thread that enters it, and not to compiled code. The
    decorator, ``@fused_upsampling()``, refuses classes, generators and coroutines with a TypeError.
    """

    def __init__(self) -> None:
        # Defined here so that `@fused_upsampling` without parentheses is refused by this name.
        super().__init__()

    @uncompiled
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.interpolate:
            deferred = defer(*args, **(kwargs or {}))
            if deferred is not None:
                return deferred
        return func(*args, **(kwargs or {}))

    def __call__(self, function: _Function) -> _Function:
        """``function``, run in the context.

        Raises:
            TypeError: it is not an ordinary function; the body of a generator, say, runs later.
        """
        if not callable(function) or inspect.isclass(function) or _runs_elsewhere(function):
            raise TypeError(
                f"fused_upsampling must decorate an ordinary function, got {function!r}"
            )

        @functools.wraps(function)
        def within(*args: Any, **kwargs: Any) -> Any:
            with fused_upsampling():
                return function(*args, **kwargs)

        return within  # type: ignore[return-value]


def _runs_elsewhere(function: Any) -> bool:
    """Whether a call of ``function`` returns before its body has run."""
    # For callable objects __call__ decides, for static methods the function they wrap.
    bodies = (function, type(function).__call__, getattr(function, "__func__", None))
    return any(
        inspect.isgeneratorfunction(body)
        or inspect.iscoroutinefunction(body)
        or inspect.isasyncgenfunction(body)
        for body in bodies
    )


def deferred_interpolate(
    scores: Tensor, size: int | Sequence[int], *, align_corners: bool = False
) -> Tensor:
    """``F.interpolate(scores, size, mode="bilinear")``, deferred.

    For a single call in your own code; :class:`fused_upsampling` does the same for code that you do
    not change.

        >>> logits = deferred_interpolate(torch.randn(1, 21, 32, 32), (256, 256))
        >>> logits.argmax(1).shape                        # never 21 x 256 x 256 numbers
        torch.Size([1, 256, 256])

    Args:
        scores: (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        size: rows and columns of the result; one number or (height, width).
        align_corners: the corner pixels of scores and result coincide, instead of the outer edges.

    Returns:
        (N, C, *size), a :class:`DeferredLogits`; or the ordinary tensor if it would be no larger
        than the scores, or if code is compiled, traced or transformed.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(scores, "scores")
    if scores.dtype not in _FLOATING:
        raise ValueError(
            f"scores must be float32, float64, float16 or bfloat16, got {scores.dtype}"
        )
    height, width = _common.pair(size, "size")
    _common.flag(align_corners, "align_corners")
    check_axes((int(align_corners),), scores.shape[2:], (height, width), "size")
    deferred = defer(scores, (height, width), None, "bilinear", align_corners)
    if deferred is not None:
        return deferred
    return F.interpolate(scores, (height, width), mode="bilinear", align_corners=align_corners)
