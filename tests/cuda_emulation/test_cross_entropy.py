"""The fused cross-entropy's CUDA kernels, run by the emulation, against plain float64 PyTorch.

Scores lie in memory full of NaN and gradients between guards: what is read or written outside, or
left out, shows. Every call draws another order of threads and blocks.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import reference

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
    assert (memory[:GUARD] == 7).all() and (memory[-GUARD:] == 7).all(), "written outside"


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


def random_case(rng: random.Random, generator: torch.Generator, stride: int, classes: int) -> Case:
    size = rng.randint(1, max(1, 40 // stride)), rng.randint(1, max(2, 150 // stride // 2))
    if rng.random() < 0.4:
        map = scaling(size, stride)
    else:
        full = [(n + 1) * stride for n in size]
        crop = [rng.randrange(full[k // 2] // 2) if rng.random() < 0.5 else 0 for k in range(4)]
        map = upsampling(size, stride, crop=(crop[0], crop[1], crop[2], crop[3]))
    weight = None
    if rng.random() < 0.5:
        weight = torch.rand(classes, generator=generator)
        weight[torch.rand(classes, generator=generator) < 0.2] = 0
    smoothing = rng.choice([0.0, 0.0, 0.1, 1.0])
    layout = rng.choice([CONTIGUOUS, CHANNELS_LAST])
    return Case(map, weight, smoothing, IGNORE, layout)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_geometric_rows(emulation: Emulation, stride: int, seed: int) -> None:
    rng = random.Random(100 * stride + seed)
    generator = torch.Generator().manual_seed(seed)
    classes = rng.choice([2, 5, 6, 7, 13, 21])
    case = random_case(rng, generator, stride, classes)
    dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    batch = rng.randint(1, 2)
    input = scores(generator, (batch, classes, *case.map.input_size), dtype)
    if rng.random() < 0.5:
        input = among_nans(input.contiguous(memory_format=CHANNELS_LAST))
    target = labels(generator, (batch, *case.map.output_size), classes, rng.choice(LABELS))
    check(emulation, case, input, target, stride=stride)


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


@pytest.mark.parametrize("name", MAPS)
def test_maps_agree_with_the_reference_of_the_package(name: str) -> None:
    map = MAPS[name]
    generator = torch.Generator().manual_seed(0)
    input = torch.randn((2, 3, *map.input_size), generator=generator, dtype=torch.float64)
    if map.stride:
        options = {"kernel_size": map.kernel_size, "offset": map.offset}
        wanted = reference.upsample(input, map.stride, output_size=map.output_size, **options)
    else:
        wanted = reference.interpolate(input, map.output_size, align_corners=map.align_corners)
    torch.testing.assert_close(map(input), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_direct(emulation: Emulation, name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(len(name))
    map, classes = MAPS[name], 7
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
    for case in (Case(map), Case(map, weight, 0.1, gradient_layout=CHANNELS_LAST)):
        input = scores(generator, (2, classes, *map.input_size), dtype)
        target = labels(generator, (2, *map.output_size), classes, torch.int64, void=0.2)
        fast = dtype != torch.float64 and name in ("stride 8", "scale 4")
        check(emulation, case, input, target, stride=None if fast else 0, pixels=True)


@pytest.mark.parametrize("stride", [2, 8, 32])
def test_one_class(emulation: Emulation, stride: int) -> None:
    map = scaling((2, 3), stride)
    input = scores(torch.Generator().manual_seed(1), (1, 1, 2, 3))
    target = torch.zeros(1, *map.output_size, dtype=torch.uint8)
    result = call(emulation, Case(map), input, target)
    assert result.loss == 0
    assert result.total_weight == target.numel()
    assert result.gradient.abs().max() <= 1e-7 * stride**2


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("classes", "stride"), [(150, 4), (150, 8), (847, 4), (21, 32)])
def test_many_classes(
    emulation: Emulation,
    classes: int,
    stride: int,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> None:
    generator = torch.Generator().manual_seed(classes)
    case = Case(upsampling((2, 3), stride, crop=(1, 0, 2, 3)), gradient_layout=layout)
    input = scores(generator, (1, classes, 2, 3), dtype).contiguous(memory_format=layout)
    target = labels(generator, (1, *case.map.output_size), classes, torch.int16)
    check(emulation, case, input, target, stride=stride)


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


KINDS = ["1e4", "1e4 noise", "200", "40", "equal", "common"]
KINDS += ["masked class", "masked nodes", "lowest", "winners masked"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "map",
    [
        *(scaling((3, 5), 2), upsampling((2, 20), 4), upsampling((3, 4), 8, crop=(1, 2, 3, 4))),
        *(scaling((2, 3), 16), scaling((1, 2), 32), upsampling((3, 4), 3)),
    ],
    ids=["x2", "s4", "s8", "x16", "x32", "s3"],
)
def test_extreme_scores(emulation: Emulation, map: Map, kind: str, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(KINDS.index(kind))
    classes = 5
    input = among_nans(extreme(generator, kind, (1, classes, *map.input_size)))
    case = Case(map, label_smoothing=smoothing)
    random_target = labels(generator, (1, *map.output_size), classes)
    check(emulation, case, input, random_target)
    if kind != "lowest":
        # Where every pixel is right, the loss is a small difference of large numbers.
        best = map(input.double()).nan_to_num(nan=-torch.inf, neginf=-1e300).argmax(1)
        check(emulation, case, input, best.to(torch.uint8), least=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "any size"])
def test_scores_that_are_not_finite(
    emulation: Emulation, name: str, smoothing: float, value: float
) -> None:
    generator = torch.Generator().manual_seed(5)
    map, classes = MAPS[name], 4
    case = Case(map, torch.tensor([1.0, 0.0, 2.0, 1.0]), smoothing)
    for every_class in (False, True):
        input = scores(generator, (1, classes, *map.input_size))
        target = labels(generator, (1, *map.output_size), classes)
        i, j = map.input_size[0] // 2, map.input_size[1] // 2
        input[0, slice(None) if every_class else 1, i, j] = value
        check(emulation, case, input, target)
        # Void wherever the node is read: nothing comes of it.
        spike = torch.zeros(1, 1, *map.input_size, dtype=torch.float64)
        spike[0, 0, i, j] = 1
        target[map(spike)[:, 0] != 0] = IGNORE
        result = call(emulation, case, input, target)
        assert result.loss.isfinite()
        assert result.gradient.isfinite().all()
        assert (result.gradient[0, :, i, j] == 0).all()
        check(emulation, case, input, target)


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3"])
def test_void(emulation: Emulation, name: str) -> None:
    generator = torch.Generator().manual_seed(6)
    case = Case(MAPS[name], label_smoothing=0.1)
    input = scores(generator, (1, 3, *case.map.input_size))
    target = torch.full((1, *case.map.output_size), IGNORE, dtype=torch.int64)
    nothing = call(emulation, case, input.fill_(torch.nan), target)
    assert nothing.loss == 0
    assert nothing.total_weight == 0
    assert (nothing.gradient == 0).all()
    input = scores(generator, (1, 3, *case.map.input_size))
    for y, x in ((0, 0), (5, 7), (case.map.output_size[0] - 1, case.map.output_size[1] - 1)):
        one = target.clone()
        one[0, y, x] = 2
        check(emulation, case, input, one, pixels=True)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("ignore_index", [255, 0, 2, -100, 2**40])
def test_ignored_labels(emulation: Emulation, dtype: torch.dtype, ignore_index: int) -> None:
    generator = torch.Generator().manual_seed(7)
    limits = torch.iinfo(dtype)
    case = Case(MAPS["stride 8"], ignore_index=ignore_index)
    input = scores(generator, (1, 4, *case.map.input_size))
    target = labels(generator, (1, *case.map.output_size), 4, void=0)
    if limits.min <= ignore_index <= limits.max:
        target = target.to(dtype)
        target[:, ::3] = ignore_index
    check(emulation, case, input, target.to(dtype), pixels=True)


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *((torch.uint8, 4), (torch.uint8, 254), (torch.int16, -1), (torch.int16, 32767)),
        *((torch.int32, -(2**31)), (torch.int64, 2**32 + 1), (torch.int64, -(2**63))),
    ],
    ids=str,
)
def test_label_out_of_range(
    emulation: Emulation, name: str, dtype: torch.dtype, value: int
) -> None:
    generator = torch.Generator().manual_seed(8)
    case = Case(MAPS[name], torch.ones(4), 0.1)
    input = scores(generator, (2, 4, *case.map.input_size))
    target = labels(generator, (2, *case.map.output_size), 4).to(dtype)
    valid = call(emulation, case, input, target)
    target[1, 0, 0] = value
    result = call(emulation, case, input, target)
    assert result.loss.isnan()
    assert result.gradient[1].isnan().any()
    assert torch.equal(result.gradient[0], valid.gradient[0])
    assert call(emulation, case, input, target, with_gradient=False).loss.isnan()
    losses, _ = call_pixels(emulation, case, input, target, torch.ones(target.shape))
    assert losses[1, 0, 0].isnan()
    assert losses.isnan().sum() == 1


def layouts(values: Tensor) -> list[Tensor]:
    """The same values, laid out otherwise."""
    axes = values.dim()
    window = torch.zeros([n + 3 for n in values.shape], dtype=values.dtype)
    window = window[tuple(slice(1, 1 + n) for n in values.shape)].copy_(values)
    reversed_axes = values.permute(*range(axes)[::-1]).contiguous().permute(*range(axes)[::-1])
    repeated = values.repeat_interleave(2, axes - 1)[..., ::2]
    return [window, reversed_axes, repeated]


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3"])
def test_layouts(emulation: Emulation, name: str) -> None:
    generator = torch.Generator().manual_seed(9)
    case = Case(MAPS[name])
    input = scores(generator, (2, 8, *case.map.input_size))
    target = labels(generator, (2, *case.map.output_size), 8, torch.int32)
    plain = call(emulation, case, input, target)
    for other in [*layouts(input), input.contiguous(memory_format=CHANNELS_LAST)]:
        for gradient_layout in (CONTIGUOUS, CHANNELS_LAST):
            result = call(emulation, replace(case, gradient_layout=gradient_layout), other, target)
            assert torch.equal(result.gradient, plain.gradient)
            assert torch.equal(result.loss, plain.loss)
    for other in layouts(target):
        assert torch.equal(call(emulation, case, input, other).gradient, plain.gradient)
    same = input[:1, :, :1, :1].expand(2, 8, *case.map.input_size)
    check(emulation, case, same, target[:1].expand(2, -1, -1))


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3"])
@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_same_bits_in_every_order(emulation: Emulation, name: str, scale: float) -> None:
    generator = torch.Generator().manual_seed(10)
    case = Case(MAPS[name], torch.rand(9, generator=generator), 0.1)
    input = scores(generator, (2, 9, *case.map.input_size), scale=scale)
    target = labels(generator, (2, *case.map.output_size), 9, block=3)
    results = [call(emulation, case, input, target) for _ in range(4)]
    for other in results[1:]:
        assert torch.equal(other.loss, results[0].loss)
        assert torch.equal(other.total_weight, results[0].total_weight)
        assert torch.equal(other.gradient, results[0].gradient)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("map", [scaling((2, 2), 8), upsampling((2, 2), 3)], ids=["x8", "s3"])
def test_empty_batch(emulation: Emulation, map: Map, dtype: torch.dtype) -> None:
    input = torch.empty(0, 3, *map.input_size, dtype=dtype)
    target = torch.empty(0, *map.output_size, dtype=torch.uint8)
    result = call(emulation, Case(map), input, target)
    assert result.loss == 0
    assert result.total_weight == 0


def test_classes_beyond_16_bits(emulation: Emulation) -> None:
    generator = torch.Generator().manual_seed(11)
    case = Case(scaling((1, 1), 2))
    input = scores(generator, (1, 65535, 1, 1))
    target = torch.tensor([[[0, 65534], [65533, 1]]], dtype=torch.int32)
    check(emulation, case, input, target, stride=0)


def test_kernels_stay_in_bounds(sanitized_program: Path) -> None:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    command = [sanitized_program, "cross_entropy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
