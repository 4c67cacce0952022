"""The tile kernel of the fused cross-entropy, emulated: which shapes take it, and any ratio."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.cases import MAPS as BENCHMARKED
from benchmarks.cases import MapCase

from .cross_entropy_cases import Case, check, labels, scores, side_of
from .maps import Map, random_upsampling, upsampling
from .operands import CHANNELS_LAST, CONTIGUOUS

if TYPE_CHECKING:
    from .library import Emulation


def side_of_map(emulation: Emulation, map: Map, dtype: torch.dtype = torch.float32) -> int:
    input = torch.empty(1, 2, *map.input_size, dtype=dtype)
    return side_of(emulation, Case(map), input, torch.empty(1, 1, 1, dtype=torch.uint8))


def smallest_side(ratio: Fraction) -> int:
    return next(side for side in (2, 4, 8, 16, 32) if ratio <= side)


def resize(nodes: int, outputs: int, align_corners: bool) -> tuple[Map, Fraction]:
    size = (nodes, nodes), (outputs, outputs)
    ratio = Fraction(outputs - 1, nodes - 1) if align_corners else Fraction(outputs, nodes)
    return Map(*size, align_corners=align_corners), ratio


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_ratio_from_1_to_32_takes_the_tile_kernel(
    emulation: Emulation, dtype: torch.dtype
) -> None:
    for align_corners in (False, True):
        for nodes in (2, 3, 7, 16, 63):
            for outputs in {*range(nodes, 32 * nodes, max(1, nodes // 3)), 32 * nodes}:
                map, ratio = resize(nodes, outputs, align_corners)
                side = smallest_side(ratio) if ratio <= 32 else 0
                assert side_of_map(emulation, map, dtype) == side, (map, ratio)
    for stride in range(1, 33):
        for odd in (False, True):
            for crop in ((0, 0, 0, 0), (0, stride // 2, stride // 3, 0)):
                map = upsampling((3, 4), stride, odd=odd, crop=crop)
                assert side_of_map(emulation, map, dtype) == smallest_side(Fraction(stride)), map


def test_the_direct_kernels_have_the_rest(emulation: Emulation) -> None:
    for map in (
        resize(9, 8, False)[0],
        resize(9, 8, True)[0],
        resize(3, 97, False)[0],
        upsampling((2, 2), 33),
        Map((4, 4), (1, 9), align_corners=True),
    ):
        assert side_of_map(emulation, map) == 0, map
    assert side_of_map(emulation, resize(4, 16, False)[0], torch.float64) == 0
    # Both axes share a tile, that of the larger side.
    assert side_of_map(emulation, Map((4, 4), (8, 100))) == 32
    assert side_of_map(emulation, Map((4, 4), (3, 100))) == 0


@pytest.mark.parametrize("case", BENCHMARKED, ids=lambda case: case.name)
def test_every_benchmark_takes_the_tile_kernel(emulation: Emulation, case: MapCase) -> None:
    upsampled = Map(case.input_size, case.size, case.stride, 2 * case.stride, case.offset)
    for map in (upsampled, Map(case.input_size, case.size)):
        assert side_of_map(emulation, map) == case.stride, map


def random_map(rng: random.Random) -> Map:
    if rng.random() < 0.3:
        stride = rng.choice([1, 2, 3, 5, 6, 7, 9, 12, 20, 31])
        most = max(2, 30 // stride), max(3, 60 // stride)
        return random_upsampling(rng, stride, odd=rng.random() < 0.6, most=most)
    ratio = rng.choice([1, 1.5, 2.5, 3.5, 6, 7.8, 11, 15.9, 17, 30]) * rng.uniform(1, 1.05)
    nodes = rng.randint(1, max(2, int(40 / ratio))), rng.randint(1, max(3, int(90 / ratio)))
    outputs = [max(n, round(n * ratio * rng.uniform(0.6, 1))) for n in nodes]
    return Map(nodes, (outputs[0], outputs[1]), align_corners=rng.random() < 0.5)


@pytest.mark.parametrize("seed", range(60))
def test_random_maps(emulation: Emulation, seed: int) -> None:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    map, classes = random_map(rng), rng.choice([2, 6, 7, 21, 40])
    weight = torch.rand(classes, generator=generator) if rng.random() < 0.5 else None
    layout = rng.choice([CONTIGUOUS, CHANNELS_LAST])
    case = Case(map, weight, rng.choice([0.0, 0.0, 0.1, 1.0]), gradient_layout=layout)
    scale = rng.choice([0.1, 3.0, 3.0, 15.0])
    input = scores(generator, (2, classes, *map.input_size), scale=scale)
    target = labels(generator, (2, *map.output_size), classes, block=rng.choice([1, 5, 40]))
    check(emulation, case, input, target, pixels=True, rounding=1e-6)
