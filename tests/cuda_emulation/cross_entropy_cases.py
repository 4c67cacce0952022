"""Losses for the fused cross-entropy's CUDA kernels: what they should be, and what they are.

Scores lie in memory full of NaN and gradients between guards: what is read or written outside, or
left out, shows. Every call draws another order of threads and blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .conftest import Emulation

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LABELS = [torch.uint8, torch.int16, torch.int32, torch.int64]
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
IGNORE = 255
GUARD = 64

_seeds = itertools.count()


@dataclass(frozen=True)
class Map:
    """Upsample or interpolate, and between which sizes."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    stride: int = 0
    kernel_size: int = 0
    offset: tuple[int, int] = (0, 0)
    align_corners: bool = False

    def taps(self, axis: int) -> tuple[Tensor, Tensor]:
        """The node before every output of an axis, and the weight of the one behind."""
        size, outputs = self.input_size[axis], self.output_size[axis]
        output = torch.arange(outputs)
        if self.stride:
            halves = 1 if self.kernel_size == 2 * self.stride else 2
            step, start = 2, 2 * self.offset[axis] + halves - 2 * self.stride
            denominator = 2 * self.stride
        elif self.align_corners:
            step, start, denominator = size - 1, 0, max(outputs - 1, 1)
        else:
            step, start, denominator = 2 * size, size - outputs, 2 * outputs
        position = step * output + start
        if not self.stride:
            position = position.clamp(0, (size - 1) * denominator)
        node = position.div(denominator, rounding_mode="floor")
        return node, (position - node * denominator).double() / denominator

    def __call__(self, input: Tensor) -> Tensor:
        """The map itself, where a weight of zero reads nothing: no infinity becomes NaN there."""
        (y, lower), (x, right) = self.taps(0), self.taps(1)
        output = torch.zeros(*input.shape[:2], *self.output_size, dtype=input.dtype)
        for i, j in itertools.product((0, 1), (0, 1)):
            row_weight = (lower if i else 1 - lower) * ((y + i >= 0) & (y + i < input.shape[2]))
            weight = (right if j else 1 - right) * ((x + j >= 0) & (x + j < input.shape[3]))
            weight = row_weight[:, None] * weight
            rows, columns = (
                (y + i).clamp(0, input.shape[2] - 1),
                (x + j).clamp(0, input.shape[3] - 1),
            )
            node = input[:, :, rows][:, :, :, columns]
            output = output + torch.where(weight == 0, 0.0, weight * node)
        return output


def upsampling(
    size: tuple[int, int],
    stride: int,
    *,
    odd: bool = False,
    crop: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Map:
    """All of an upsampling but `crop` pixels at its top, bottom, left and right."""
    kernel_size = 1 if stride == 1 else 2 * stride - odd
    top, bottom, left, right = crop
    height, width = ((n - 1) * stride + kernel_size for n in size)
    output = height - top - bottom, width - left - right
    return Map(size, output, stride, kernel_size, (top, left))


def scaling(size: tuple[int, int], stride: int) -> Map:
    return Map(size, (size[0] * stride, size[1] * stride))


@dataclass(frozen=True)
class Case:
    """A loss: what F.cross_entropy is given besides scores, and how the operands are laid out."""

    map: Map
    weight: Tensor | None = None
    label_smoothing: float = 0.0
    ignore_index: int = IGNORE
    gradient_layout: torch.memory_format = CONTIGUOUS

    def problem(self, input: Tensor, target: Tensor, gradient: Tensor) -> Tensor:
        map = self.map
        kind = 0 if map.stride else 1 + map.align_corners
        values = [DTYPES.index(input.dtype), *input.shape, *map.output_size, kind]
        values += [map.stride, map.kernel_size, *map.offset, *input.stride()]
        values += [LABELS.index(target.dtype), *target.stride(), self.ignore_index]
        return torch.tensor([*values, *gradient.stride()])


@dataclass
class Result:
    loss: Tensor
    total_weight: Tensor
    gradient: Tensor


def accumulated(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def expected(case: Case, input: Tensor, target: Tensor, factor: Tensor | None = None) -> Result:
    """The same in float64; a void pixel's scores do not count, whatever they are."""
    scores = input.double().requires_grad_()
    valid = target.long() != case.ignore_index
    logits = torch.where(valid[:, None], case.map(scores), 0.0)
    losses = F.cross_entropy(
        logits,
        target.long(),
        None if case.weight is None else case.weight.double(),
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


def among_nans(values: Tensor, shift: int = 0) -> Tensor:
    """The same values and strides in a larger memory of NaN, `shift` elements past alignment."""
    if values.numel() == 0:
        return values
    reach = 1 + sum((n - 1) * s for n, s in zip(values.shape, values.stride(), strict=True))
    memory = torch.full((reach + 2 * GUARD + shift,), torch.nan, dtype=values.dtype)
    placed = memory.as_strided(values.shape, values.stride(), GUARD + shift)
    return placed.copy_(values)


def guarded(
    shape: torch.Size, dtype: torch.dtype, layout: torch.memory_format
) -> tuple[Tensor, Tensor]:
    """A result full of NaN, and the memory around it, full of 7."""
    like = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=layout)
    memory = torch.full((like.numel() + 2 * GUARD,), 7.0, dtype=dtype)
    result = memory.as_strided(shape, like.stride(), GUARD)
    result.fill_(torch.nan)
    return result, memory


def check_guards(memory: Tensor) -> None:
    outside = torch.cat([memory[:GUARD], memory[-GUARD:]])
    assert (outside == 7).all(), "the kernel wrote outside its result"


def call(
    emulation: Emulation, case: Case, input: Tensor, target: Tensor, *, with_gradient: bool = True
) -> Result:
    emulation.set_seed(next(_seeds))
    dtype = accumulated(input.dtype)
    loss, total_weight = torch.full((2,), torch.nan, dtype=dtype)
    loss, total_weight = loss.clone(), total_weight.clone()
    gradient, memory = guarded(input.shape, dtype, case.gradient_layout)
    weight = None if case.weight is None else case.weight.to(dtype)
    emulation.call(
        "cross_entropy",
        *(
            case.problem(input, target, gradient),
            torch.tensor(case.label_smoothing, dtype=torch.float64),
        ),
        *(input, target, weight, loss, total_weight, gradient if with_gradient else None),
    )
    check_guards(memory)
    return Result(loss, total_weight, gradient)


def call_pixels(
    emulation: Emulation, case: Case, input: Tensor, target: Tensor, grad_output: Tensor
) -> tuple[Tensor, Tensor]:
    emulation.set_seed(next(_seeds))
    dtype = accumulated(input.dtype)
    losses, losses_memory = guarded(target.shape, dtype, CONTIGUOUS)
    gradient, memory = guarded(input.shape, dtype, case.gradient_layout)
    weight = None if case.weight is None else case.weight.to(dtype)
    problem = case.problem(input, target, gradient)
    smoothing = torch.tensor(case.label_smoothing, dtype=torch.float64)
    emulation.call("cross_entropy_pixels", problem, smoothing, input, target, weight, losses)
    emulation.call(
        "cross_entropy_pixels_backward",
        *(problem, smoothing, grad_output.to(dtype).contiguous(), input, target, weight, gradient),
    )
    check_guards(losses_memory)
    check_guards(memory)
    return losses, gradient


def stride_of(emulation: Emulation, case: Case, input: Tensor, target: Tensor) -> int:
    """Of the geometric-row kernel; 0 where the shape is left to the direct ones."""
    stride = torch.zeros(1, dtype=torch.int64)
    emulation.call("cross_entropy_stride", case.problem(input, target, input), stride)
    return int(stride)


def close(actual: Tensor, wanted: Tensor, tolerance: float, least: float = 1e-6) -> None:
    """NaN and infinities in the same places, all else within `tolerance` of the largest element,
    or `least`."""
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
    stride: int | None = None,
    pixels: bool = False,
    least: float = 0.0,
) -> None:
    """Loss, its gradient and the total weight against the reference, to the relative precision
    asked of them, or to `least` for a pixel."""
    exact = input.dtype == torch.float64
    tolerance = 1e-11 if exact else 1e-5
    loss_tolerance = 1e-12 if exact else 1e-6
    if stride is not None:
        assert stride_of(emulation, case, input, target) == stride
    wanted = expected(case, input, target)
    if stride is not None or not pixels:
        for with_gradient in (True, False):
            result = call(emulation, case, input, target, with_gradient=with_gradient)
            close(result.loss, wanted.loss.sum(), loss_tolerance, least * target.numel())
            close(result.total_weight, wanted.total_weight, 1e-6)
            if with_gradient:
                readers = max(target.shape[1:].numel() / input.shape[2:].numel(), 1.0)
                close(result.gradient, wanted.gradient, tolerance, max(1e-6, least * readers))
    if pixels:
        generator = torch.Generator().manual_seed(1)
        factor = torch.randn(target.shape, generator=generator, dtype=accumulated(input.dtype))
        wanted = expected(case, input, target, factor)
        losses, gradient = call_pixels(emulation, case, input, target, factor)
        close(losses, wanted.loss, tolerance)
        close(gradient, wanted.gradient, tolerance)


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
    n, h, w = shape
    coarse = torch.randint(0, classes, (n, h // block + 1, w // block + 1), generator=generator)
    fine = coarse.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :h, :w]
    fine = fine.clone().masked_fill_(torch.rand(shape, generator=generator) < void, IGNORE)
    return fine.to(dtype).contiguous()


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
}


def layouts(values: Tensor) -> list[Tensor]:
    """The same values, laid out otherwise."""
    axes = values.dim()
    window = torch.zeros([n + 3 for n in values.shape], dtype=values.dtype)
    window = window[tuple(slice(1, 1 + n) for n in values.shape)].copy_(values)
    reversed_axes = values.permute(*range(axes)[::-1]).contiguous().permute(*range(axes)[::-1])
    repeated = values.repeat_interleave(2, axes - 1)[..., ::2]
    return [window, reversed_axes, repeated]


def extreme(generator: torch.Generator, kind: str, shape: tuple[int, int, int, int]) -> Tensor:
    """Scores for which the maxima of the nodes bound the pixels' badly, or which tempt rounding."""
    noise = torch.randn(shape, generator=generator)
    if kind == "1e4":  # another winner at every node
        return torch.where(torch.rand(shape, generator=generator) < 0.5, 1e4, -1e4)
    if kind == "1e4 noise":
        return noise * 1e4
    if kind == "200":
        return noise * 200
    if kind == "40":
        return noise * 40
    if kind == "equal":
        return torch.full(shape, 1e4)
    if kind == "common":
        return 1e4 + noise.round(decimals=2)
    if kind == "masked class":
        noise[:, shape[1] // 2] = -torch.inf
        return noise
    if kind == "masked nodes":
        noise[torch.rand(shape, generator=generator) < 0.3] = -torch.inf
        noise[:, 0] = 1.0
        return noise
    if kind == "lowest":
        noise[:, 1:][torch.rand(shape, generator=generator)[:, 1:] < 0.3] = -1e30
        return noise
    assert kind == "winners masked"  # at every node all but one class, of its own
    winner = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), generator=generator)
    return torch.full(shape, -torch.inf).scatter_(1, winner, 0.0)
