"""Labels and counts by the emulated argmax kernels, and what they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .confusion_matrix_cases import added, check_counts
from .maps import Map
from .operands import INF, accumulated, among_nans, blocks, check_guards, guarded

if TYPE_CHECKING:
    from .library import Emulation


def logits_of(map: Map, input: Tensor) -> Tensor:
    """The logits as the kernels form them, in their precision."""
    return map(input.to(accumulated(input.dtype)))


def first_largest(logits: Tensor) -> Tensor:
    """The class with the largest logit, the lowest of equal ones; NaN is the greatest."""
    nan = logits.isnan()
    best = logits.masked_fill(nan, -INF).amax(1, keepdim=True)
    wins = torch.where(nan.any(1, keepdim=True), nan, logits == best)
    classes = torch.arange(logits.shape[1]).view(-1, 1, 1)
    return classes.where(wins, logits.shape[1]).amin(1)


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
    labels, memory = guarded((batch, *map.output_size), dtype, shift=shift)
    geometry = map.geometry(batch, channels)
    scores = (input.dtype, geometry, input, input.stride())
    emulation.call("argmax_labels", *scores, labels, dtype, probability)
    check_guards(labels, memory)
    return labels


def confusion(
    emulation: Emulation, map: Map, input: Tensor, target: Tensor, ignore_index: int = 255
) -> tuple[Tensor, int]:
    batch, channels = input.shape[:2]
    scores = (input.dtype, map.geometry(batch, channels), input, input.stride())
    targets = (target, target.dtype, *target.stride(), ignore_index)

    def count(matrix: Tensor, invalid: Tensor) -> None:
        emulation.call("argmax_confusion", *scores, *targets, matrix, invalid)

    return added(channels, count)


def hits(
    emulation: Emulation, map: Map, input: Tensor, target: Tensor, ignore_index: int = 255
) -> Tensor:
    """The number of pixels that count, and of those whose label wins, written over old values."""
    found, memory = guarded((2,), torch.int64)
    found.fill_(99)
    scores = (input.dtype, map.geometry(*input.shape[:2]), input, input.stride())
    targets = (target, target.dtype, *target.stride(), ignore_index)
    emulation.call("argmax_hits", *scores, *targets, found)
    check_guards(found, memory)
    return found


def plan(
    emulation: Emulation, map: Map, shape: tuple[int, int], dtype: torch.dtype, counting: bool
) -> dict[str, int]:
    values = torch.zeros(8, dtype=torch.int64)
    emulation.call("argmax_plan", dtype, map.geometry(*shape), int(counting), values)
    tile = ("tiled", "stages", "band", "cell_rows", "cell_columns", "chunk_tiles")
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
    counts = confusion(emulation, map, among_nans(input), target, ignore_index)
    labels = first_largest(logits_of(map, input))
    check_counts(counts, labels, target, input.shape[1], ignore_index)
    matrix, _ = counts
    found = hits(emulation, map, among_nans(input), target, ignore_index)
    assert found.tolist() == [int(matrix.sum()), int(matrix.trace())]


def scores(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, kind: str = "random"
) -> Tensor:
    """Random scores, or scores like a trained network's: smooth regions of one clear class."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "trained":
        n, c, h, w = shape
        regions = blocks(generator, (n, h, w), c, 4)
        noise = noise.scatter_add(1, regions[:, None], torch.full(shape, 9.0, dtype=torch.float64))
    return noise.to(dtype)


def targets(seed: int, shape: tuple[int, int, int], classes: int, dtype: torch.dtype) -> Tensor:
    """Blocks of equal labels, some void, some out of range."""
    generator = torch.Generator().manual_seed(seed)
    labels = blocks(generator, shape, classes + 1, 9).clamp(max=torch.iinfo(dtype).max)
    return labels.masked_fill(torch.rand(shape, generator=generator) < 0.05, 255).to(dtype)
