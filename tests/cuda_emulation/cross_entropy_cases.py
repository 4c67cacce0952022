"""Losses for the fused cross-entropy's CUDA kernels: expected and computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import Map, scaling, upsampling, window
from .operands import (
    CONTIGUOUS,
    LABELS,
    SCORES,
    accumulated,
    among_nans,
    blocks,
    check_guards,
    guarded,
)

if TYPE_CHECKING:
    from .library import Emulation

IGNORE = 255


@dataclass(frozen=True)
class Case:
    """A loss: what F.cross_entropy takes besides scores, and the layouts of the operands."""

    map: Map
    weight: Tensor | None = None
    label_smoothing: float = 0.0
    ignore_index: int = IGNORE
    gradient_layout: torch.memory_format = CONTIGUOUS

    def problem(self, input: Tensor, target: Tensor, gradient: Tensor) -> tuple[int, ...]:
        """The ``Problem`` of entry_points/cross_entropy.cpp."""
        return (
            *(SCORES.index(input.dtype), *self.map.geometry(*input.shape[:2]), *input.stride()),
            *(LABELS.index(target.dtype), *target.stride(), self.ignore_index),
            *gradient.stride(),
        )

    def weight_of(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.weight is None else self.weight.to(dtype)


@dataclass
class Result:
    loss: Tensor
    total_weight: Tensor
    gradient: Tensor


def expected(case: Case, input: Tensor, target: Tensor, factor: Tensor | None = None) -> Result:
    """The expected result in float64; a void pixel's scores do not count, whatever they are."""
    scores = input.double().requires_grad_()
    valid = target.long() != case.ignore_index
    logits = torch.where(valid[:, None], case.map(scores), 0.0)
    losses = F.cross_entropy(
        logits,
        target.long(),
        case.weight_of(torch.float64),
        ignore_index=case.ignore_index,
        reduction="none",
        label_smoothing=case.label_smoothing,
    )
    (gradient,) = torch.autograd.grad(
        losses, scores, torch.ones_like(losses) if factor is None else factor.double()
    )
    weight = torch.ones(input.shape[1]) if case.weight is None else case.weight
    total = weight.double()[target.long()[valid]].sum()
    return Result(losses.detach(), total, gradient)


def call(
    emulation: Emulation,
    case: Case,
    input: Tensor,
    target: Tensor,
    *,
    with_gradient: bool = True,
    mean: bool = False,
) -> Result:
    dtype = accumulated(input.dtype)
    loss, total_weight = (torch.full((), torch.nan, dtype=dtype) for _ in range(2))
    gradient, memory = guarded(input.shape, dtype, case.gradient_layout)
    emulation.call(
        "cross_entropy",
        case.problem(input, target, gradient),
        case.label_smoothing,
        int(mean),
        input,
        target,
        case.weight_of(dtype),
        loss,
        total_weight,
        gradient if with_gradient else None,
    )
    check_guards(gradient, memory)
    return Result(loss, total_weight, gradient)


def call_pixels(
    emulation: Emulation, case: Case, input: Tensor, target: Tensor, grad_output: Tensor
) -> tuple[Tensor, Tensor]:
    dtype = accumulated(input.dtype)
    losses, losses_memory = guarded(target.shape, dtype)
    gradient, memory = guarded(input.shape, dtype, case.gradient_layout)
    problem = (case.problem(input, target, gradient), case.label_smoothing)
    operands = (input, target, case.weight_of(dtype))
    grad_output = grad_output.to(dtype).contiguous()
    emulation.call("cross_entropy_pixels", *problem, *operands, losses)
    emulation.call("cross_entropy_pixels_backward", *problem, grad_output, *operands, gradient)
    check_guards(losses, losses_memory)
    check_guards(gradient, memory)
    return losses, gradient


def side_of(emulation: Emulation, case: Case, input: Tensor, target: Tensor) -> int:
    """The side of a cell of the tile kernel; 0 if the shape goes to the direct kernels."""
    side = torch.zeros(1, dtype=torch.int64)
    emulation.call("cross_entropy_side", case.problem(input, target, input), side)
    return int(side)


def close(actual: Tensor, wanted: Tensor, tolerance: float, least: float = 1e-6) -> None:
    """Asserts NaN and infinities in the same places, and all else within `tolerance` of the largest
    element, or within `least`."""
    actual = actual.double()
    assert torch.equal(actual.isnan(), wanted.isnan())
    finite = wanted.isfinite()
    assert torch.equal(actual[~finite].nan_to_num(), wanted[~finite].nan_to_num())
    if finite.any():
        scale = float(wanted[finite].abs().max())
        error = float((actual[finite] - wanted[finite]).abs().max())
        assert error <= max(tolerance * scale, least), f"off by {error:.2e}, largest {scale:.3g}"


def check(
    emulation: Emulation,
    case: Case,
    input: Tensor,
    target: Tensor,
    *,
    side: int | None = None,
    pixels: bool = False,
    least: float = 0.0,
    rounding: float = 0.0,
) -> None:
    """Checks loss, gradient and total weight against the reference, to the relative precision
    required of them, or to `least` for a pixel. `rounding` is allowed where terms cancel: with even
    scores, between the powers' part of a gradient and the labels'; in a small loss of a pixel,
    against the bound below which its powers are summed."""
    exact = input.dtype == torch.float64
    tolerance = 1e-11 if exact else 1e-5
    loss_tolerance = 1e-12 if exact else 1e-6
    if side is not None:
        assert side_of(emulation, case, input, target) == side
    wanted = expected(case, input, target)
    readers = max(target.shape[1:].numel() / input.shape[2:].numel(), 1.0)
    gradient_least = max(1e-6, least * readers, rounding * readers / input.shape[1])
    for with_gradient in (True, False):
        result = call(emulation, case, input, target, with_gradient=with_gradient)
        close(result.loss, wanted.loss.sum(), loss_tolerance, least * target.numel())
        close(result.total_weight, wanted.total_weight, 1e-6)
        if with_gradient:
            close(result.gradient, wanted.gradient, tolerance, gradient_least)
    check_mean(emulation, case, input, target, result)
    if pixels:
        generator = torch.Generator().manual_seed(1)
        factor = torch.randn(target.shape, generator=generator, dtype=accumulated(input.dtype))
        wanted = expected(case, input, target, factor)
        losses, gradient = call_pixels(emulation, case, input, target, factor)
        close(losses, wanted.loss, tolerance, max(1e-6, 8 * least, 3 * rounding))
        close(gradient, wanted.gradient, tolerance, gradient_least)


def check_mean(
    emulation: Emulation, case: Case, input: Tensor, target: Tensor, summed: Result
) -> None:
    """The mean is the divided sum, and so is its gradient; a mean over nothing has none."""
    mean = call(emulation, case, input, target, mean=True)
    total = mean.total_weight
    close(total, summed.total_weight.double(), 1e-6)
    close(mean.loss, (summed.loss / total).double(), 1e-6)
    gradient = call(emulation, case, input, target).gradient
    scale = 1 / total if total != 0 else torch.zeros_like(total)
    close(mean.gradient, (gradient * scale).double(), 1e-5)


def scores(
    generator: torch.Generator,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    scale: float = 3.0,
) -> Tensor:
    return among_nans((torch.randn(shape, generator=generator) * scale).to(dtype))


def labels(
    generator: torch.Generator,
    shape: tuple[int, int, int],
    classes: int,
    dtype: torch.dtype = torch.uint8,
    *,
    block: int = 5,
    void: float = 0.1,
) -> Tensor:
    """Piecewise constant labels with void pixels among them."""
    labels = blocks(generator, shape, classes, block)
    labels = labels.masked_fill(torch.rand(shape, generator=generator) < void, IGNORE)
    return labels.to(dtype).contiguous()


MAPS = {
    "stride 1": upsampling((7, 9), 1),
    "stride 3": upsampling((5, 6), 3),
    "stride 3 cropped": upsampling((5, 6), 3, crop=(2, 4, 3, 1)),
    "stride 8 odd": upsampling((3, 5), 8, odd=True),
    "stride 4 odd cropped": upsampling((4, 3), 4, odd=True, crop=(3, 2, 1, 5)),
    "stride 40": upsampling((2, 2), 40, crop=(30, 29, 0, 31)),
    "stride 8": upsampling((4, 5), 8, crop=(0, 3, 5, 0)),
    "scale 4": scaling((5, 3), 4),
    "any size": Map((5, 7), (13, 31)),
    "corners": Map((5, 7), (13, 31), align_corners=True),
    "down": Map((13, 11), (5, 4)),
    "one node": Map((1, 1), (12, 70)),
    "one pixel": Map((4, 5), (1, 1)),
    "one pixel of corners": Map((4, 5), (1, 1), align_corners=True),
    "two strides": Map((4, 4), (16, 32)),
    "window": window((5, 7), (40, 28), (9, 3), (17, 25)),
    "window to the corner": window((6, 5), (13, 31), (5, 20), (8, 11), align_corners=True),
    "window down": window((13, 11), (5, 4), (1, 0), (3, 4)),
}
