"""Maps, scores and targets for the emulated argmax, and what its results are compared with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fcn_ext import reference

if TYPE_CHECKING:
    from .conftest import Emulation

SCORES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LABELS = [torch.uint8, torch.int16, torch.int32, torch.int64]
GUARD = 32
NAN, INF = float("nan"), float("inf")

_seeds = itertools.count()


# ---------------------------------------------------------------- maps


@dataclass(frozen=True)
class Map:
    """Upsample or interpolate, and between which sizes."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    stride: int = 0
    kernel_size: int = 0
    offset: tuple[int, int] = (0, 0)
    align_corners: bool = False

    def reference(self, input: Tensor) -> Tensor:
        if self.stride:
            return reference.upsample(
                input,
                self.stride,
                kernel_size=self.kernel_size,
                offset=self.offset,
                output_size=self.output_size,
            )
        return reference.interpolate(input, self.output_size, align_corners=self.align_corners)

    def problem(self, batch: int, channels: int) -> Tensor:
        kind = 0 if self.stride else 1 + self.align_corners
        sizes = batch, channels, *self.input_size, *self.output_size
        return torch.tensor([*sizes, kind, self.stride, self.kernel_size, *self.offset])

    def taps(self, axis: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Lower node, its weight and that of the next, of every output; 0 where not read."""
        nodes, outputs = self.input_size[axis], self.output_size[axis]
        o = torch.arange(outputs)
        if self.stride:
            half_steps = 2 * self.stride + 1 - self.kernel_size
            steps = 2 * o + 2 * self.offset[axis] + half_steps - 2 * self.stride
            denominator = 2 * self.stride
        elif self.align_corners:
            steps, denominator = (nodes - 1) * o, max(outputs - 1, 1)
            steps = steps if outputs > 1 else steps * 0
        else:
            steps, denominator = 2 * nodes * o + nodes - outputs, 2 * outputs
        node = steps.div(denominator, rounding_mode="floor")
        rest = steps - node * denominator
        if not self.stride:
            rest = rest.where((node >= 0) & (node < nodes - 1), 0)
            node = node.clamp(0, nodes - 1)
        lower = (denominator - rest).to(dtype) / torch.tensor(denominator, dtype=dtype)
        upper = rest.to(dtype) / torch.tensor(denominator, dtype=dtype)
        return node, lower.where(node >= 0, 0), upper.where(node + 1 < nodes, 0)


def weighted(scores: Tensor, taps: tuple[Tensor, Tensor, Tensor], dim: int) -> Tensor:
    """lower * score + upper * next score along ``dim``; what has no weight is not read."""
    node, lower, upper = taps
    shape = [1] * scores.dim()
    shape[dim] = -1
    sums = []
    for index, weight in ((node, lower), (node + 1, upper)):
        weight = weight.reshape(shape)
        read = scores.index_select(dim, index.clamp(0, scores.shape[dim] - 1))
        sums.append(weight * read.where(weight != 0, 0))
    return sums[0] + sums[1]


def logits_of(map: Map, input: Tensor) -> Tensor:
    """The logits as the kernels form them, product by product."""
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    return weighted(
        weighted(input.to(dtype), map.taps(1, dtype), 3), map.taps(0, dtype), 2
    ).contiguous()


def first_largest(logits: Tensor) -> Tensor:
    """The lowest class of the largest logit, NaN the greatest."""
    nan = logits.isnan()
    best = logits.masked_fill(nan, -INF).amax(1, keepdim=True)
    wins = torch.where(nan.any(1, keepdim=True), nan, logits == best)
    classes = torch.arange(logits.shape[1]).view(-1, 1, 1)
    return classes.where(wins, logits.shape[1]).amin(1)


# ---------------------------------------------------------------- calls


def among_nans(values: Tensor, shift: int = 0) -> Tensor:
    """The same values and strides in a larger memory of NaN."""
    reach = 1 + sum((n - 1) * s for n, s in zip(values.shape, values.stride(), strict=True))
    memory = torch.full((reach + 2 * GUARD + shift,), NAN, dtype=values.dtype)
    placed = memory.as_strided(values.shape, values.stride(), GUARD + shift)
    return placed.copy_(values)


def argmax(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    dtype: torch.dtype = torch.int16,
    *,
    shift: int = 0,
    probability: Tensor | None = None,
) -> Tensor:
    batch, channels = input.shape[:2]
    shape = (batch, *map.output_size)
    numel = torch.Size(shape).numel()
    memory = torch.full((numel + 2 * GUARD + shift,), 77, dtype=dtype)
    begin = GUARD + shift
    labels = memory[begin : begin + numel].view(shape).fill_(99)
    emulation.set_seed(next(_seeds))
    emulation.call(
        "argmax_labels",
        SCORES.index(input.dtype),
        map.problem(batch, channels),
        input,
        torch.tensor(input.stride()),
        labels,
        LABELS.index(dtype),
        probability,
    )
    outside = torch.cat([memory[:begin], memory[begin + numel :]])
    assert (outside == 77).all(), "the kernel wrote outside its labels"
    return labels


def confusion(
    emulation: Emulation, map: Map, input: Tensor, target: Tensor, ignore_index: int = 255
) -> tuple[Tensor, int]:
    batch, channels = input.shape[:2]
    matrix, invalid = torch.full((channels, channels), 5), torch.full((), 7)
    emulation.set_seed(next(_seeds))
    emulation.call(
        "argmax_confusion",
        SCORES.index(input.dtype),
        map.problem(batch, channels),
        input,
        torch.tensor(input.stride()),
        target,
        LABELS.index(target.dtype),
        *target.stride(),
        ignore_index,
        matrix,
        invalid,
    )
    return matrix - 5, int(invalid) - 7


def plan(
    emulation: Emulation, map: Map, shape: tuple[int, int], dtype: torch.dtype, counting: bool
) -> dict[str, int]:
    values = torch.zeros(8, dtype=torch.int64)
    emulation.call("argmax_plan", SCORES.index(dtype), map.problem(*shape), int(counting), values)
    tile = ("tiled", "chunks", "band", "cell_rows", "cell_columns", "strip_tiles")
    names = (*tile, "histograms", "bytes")
    return dict(zip(names, values.tolist(), strict=True))


def check_labels(map: Map, input: Tensor, labels: Tensor) -> None:
    logits = logits_of(map, input)
    assert torch.equal(labels.long(), first_largest(logits))
    if input.isfinite().all():
        exact = map.reference(input.double())
        if exact.shape[1] > 1:
            first, second = exact.topk(2, 1).values.unbind(1)
        else:
            first, second = exact[:, 0], torch.full_like(exact[:, 0], -INF)
        rounding = torch.finfo(logits.dtype).eps * 4 * input.double().abs().max()
        clear = first - second > rounding
        assert torch.equal(labels.long()[clear], exact.argmax(1)[clear])


def check(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    dtype: torch.dtype = torch.int16,
    *,
    shift: int = 0,
) -> None:
    labels = argmax(emulation, map, among_nans(input, shift), dtype, shift=shift)
    check_labels(map, input, labels)


def check_confusion(
    emulation: Emulation, map: Map, input: Tensor, target: Tensor, ignore_index: int = 255
) -> None:
    matrix, invalid = confusion(emulation, map, among_nans(input), target, ignore_index)
    labels = first_largest(logits_of(map, input))
    expected, expected_invalid = reference.confusion_matrix(
        labels, target, input.shape[1], ignore_index=ignore_index
    )
    assert invalid == expected_invalid
    assert torch.equal(matrix, expected)


# ---------------------------------------------------------------- scores and targets


def scores(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, kind: str = "random"
) -> Tensor:
    """Random ones, or those of a trained network: smooth regions of one clear class."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "trained":
        n, c, h, w = shape
        regions = torch.randint(0, c, (n, 1, h // 4 + 1, w // 4 + 1), generator=generator)
        regions = regions.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :h, :w]
        noise = noise.scatter_add(1, regions, torch.full(shape, 9.0, dtype=torch.float64))
    return noise.to(dtype)


def targets(seed: int, shape: tuple[int, ...], classes: int, dtype: torch.dtype) -> Tensor:
    """Blocks of equal labels, some void, some out of range."""
    generator = torch.Generator().manual_seed(seed)
    n, h, w = shape
    coarse = torch.randint(0, classes + 1, (n, h // 9 + 1, w // 9 + 1), generator=generator)
    labels = coarse.repeat_interleave(9, 1).repeat_interleave(9, 2)[:, :h, :w]
    labels = labels.clamp(max=torch.iinfo(dtype).max)
    return labels.masked_fill(torch.rand(shape, generator=generator) < 0.05, 255).to(dtype)
