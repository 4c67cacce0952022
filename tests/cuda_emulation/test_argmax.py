"""The CUDA kernels that make label maps from coarse scores, emulated.

All labels equal those of logits formed by the same weighted sums in the same precision
(``logits_of``) and, wherever the two largest logits differ by more than rounding, those of plain
PyTorch in float64.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import torch

from .argmax_cases import argmax, check, first_largest, logits_of, plan, scores
from .maps import Map, random_upsampling, windows
from .operands import LABELS, SCORES, laid_out

if TYPE_CHECKING:
    from .library import Emulation


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("odd", [False, True], ids=["2s", "2s-1"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 8, 16, 32, 40])
def test_upsample(emulation: Emulation, stride: int, odd: bool, kind: str) -> None:
    rng = random.Random(f"{stride} {odd} {kind}")
    for channels, dtype in ((1, SCORES[0]), (21, SCORES[0]), (2, SCORES[1]), (21, SCORES[3])):
        map = random_upsampling(rng, stride, odd=odd, most=(6, 12))
        input = scores(rng.randrange(1000), (2, channels, *map.input_size), dtype, kind)
        check(emulation, map, input, rng.choice(LABELS), shift=rng.choice([0, 0, 1, 5]))


INTERPOLATIONS = [
    ((4, 7), (8, 14)),  # whole strides
    ((9, 7), (72, 56)),
    ((3, 4), (96, 128)),
    ((5, 6), (13, 17)),
    ((7, 9), (55, 60)),
    ((4, 6), (121, 18)),  # 31 rows but 3 columns per node
    ((13, 17), (5, 6)),  # down
    ((3, 9), (9, 3)),
    ((1, 1), (3, 5)),
    ((6, 5), (1, 1)),
    ((1, 8), (9, 8)),
    ((6, 5), (6, 5)),  # the identity
    ((2, 3), (130, 7)),
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", INTERPOLATIONS, ids=str)
def test_interpolate(
    emulation: Emulation, sizes: tuple[tuple[int, int], tuple[int, int]], align_corners: bool
) -> None:
    rng = random.Random(f"{sizes}")
    maps = windows(rng, Map(*sizes, align_corners=align_corners))
    for seed, (channels, dtype, kind) in enumerate(
        [
            (21, torch.float32, "random"),
            (5, torch.float64, "trained"),
            (33, torch.float16, "trained"),
            (9, torch.float32, "random"),
        ]
    ):
        map = maps[seed % len(maps)]
        check(emulation, map, scores(seed, (2, channels, *map.input_size), dtype, kind))


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("channels", [1, 2, 21, 150, 300, 847])
def test_numbers_of_classes(emulation: Emulation, channels: int, kind: str) -> None:
    for map in (Map((3, 9), (24, 72), 8, 16, (4, 4)), Map((4, 8), (16, 32)), Map((5, 5), (4, 6))):
        input = scores(channels, (1, channels, *map.input_size), torch.float32, kind)
        check(emulation, map, input, torch.int16 if channels > 256 else torch.uint8)


def test_most_classes(emulation: Emulation) -> None:
    map = Map((2, 2), (8, 8), 4, 8, (2, 2))
    check(emulation, map, scores(0, (1, 32768, 2, 2)), torch.int16)


@pytest.mark.parametrize("dtype", SCORES, ids=str)
@pytest.mark.parametrize("label", LABELS, ids=str)
def test_types(emulation: Emulation, dtype: torch.dtype, label: torch.dtype) -> None:
    map = Map((4, 11), (30, 83), 8, 16, (5, 3))
    for shift in (0, 3):
        check(emulation, map, scores(1, (2, 19, 4, 11), dtype, "trained"), label, shift=shift)


LAYOUTS = ["channels last", "window", "channels last window", "every other column", "reversed"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [3, 40])
def test_layouts(emulation: Emulation, layout: str, channels: int) -> None:
    for map in (Map((4, 9), (32, 72), 8, 16, (4, 4)), Map((4, 9), (3, 5)), Map((4, 9), (13, 40))):
        input = laid_out(scores(2, (2, channels, 4, 9), torch.float32, "trained"), layout)
        check(emulation, map, input)


def test_expanded_scores(emulation: Emulation) -> None:
    map = Map((4, 9), (32, 72), 8, 16, (4, 4))
    input = scores(3, (1, 6, 4, 1)).expand(3, 6, 4, 9)
    labels = argmax(emulation, map, input)
    assert torch.equal(labels.long(), first_largest(logits_of(map, input)))


# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize("multiprocessors", [1, 132])
@pytest.mark.parametrize(
    ("shape", "dtype", "map"),
    [
        ((1, 5), torch.float32, Map((21, 70), (168, 560), 8, 16, (4, 4))),
        ((6, 5), torch.float32, Map((40, 70), (80, 140))),
        ((2, 9), torch.float16, Map((11, 70), (44, 279), 4, 8, (2, 3))),
        ((1, 4), torch.bfloat16, Map((6, 37), (96, 592))),
        ((1, 4), torch.float64, Map((4, 12), (128, 384))),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["random", "trained"])
def test_many_tiles(
    emulation: Emulation,
    shape: tuple[int, int],
    dtype: torch.dtype,
    map: Map,
    multiprocessors: int,
    kind: str,
) -> None:
    emulation.set_device(multiprocessors)
    chunk = plan(emulation, map, shape, dtype, False)["chunk_tiles"]
    assert (chunk > 1) == (multiprocessors == 1 and shape[0] == 6)
    check(emulation, map, scores(4, (*shape, *map.input_size), dtype, kind))


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_stages_of_classes(emulation: Emulation, stride: int, kind: str) -> None:
    """With little shared memory, classes are staged 32 or 64 at a time."""
    map = Map((3, 9), (3 * stride, 9 * stride), stride, 2 * stride, (stride // 2, stride // 2))
    emulation.set_device(1, 48 << 10)
    for dtype in (torch.float32, torch.float64):
        planned = plan(emulation, map, (1, 600), dtype, False)
        assert planned["tiled"] == 1
        assert planned["stages"] > 1
        check(emulation, map, scores(5, (1, 600, 3, 9), dtype, kind))


def test_too_little_shared_memory(emulation: Emulation) -> None:
    map = Map((3, 9), (24, 72), 8, 16, (4, 4))
    emulation.set_device(1, 4 << 10)
    assert plan(emulation, map, (1, 40), torch.float32, False)["tiled"] == 0
    check(emulation, map, scores(5, (1, 40, 3, 9)))


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("channels", [21, 150, 847])
def test_every_stride_has_tiles_for_two_blocks(
    emulation: Emulation, channels: int, stride: int
) -> None:
    map = Map((64, 64), (64 * stride, 64 * stride), stride, 2 * stride, (stride // 2, stride // 2))
    planned = plan(emulation, map, (8, channels), torch.float32, False)
    assert planned["tiled"] == 1
    assert planned["band"] == stride
    threads = planned["cell_rows"] * planned["cell_columns"] * stride**2 / min(8, 2 * stride)
    assert threads >= 64
    assert planned["bytes"] <= 116 << 10
    counting = plan(emulation, map, (8, channels), torch.float32, True)
    assert counting["tiled"] == 1
    assert (counting["histograms"] > 0) == (channels < 200)


@pytest.mark.parametrize("seed", range(4))
def test_order_of_threads_does_not_matter(emulation: Emulation, seed: int) -> None:
    map = Map((5, 12), (40, 96), 8, 16, (4, 4))
    input = scores(6, (1, 70, 5, 12), torch.float32, "trained")
    emulation.set_device(1, 60 << 10)
    emulation.set_seed(seed)
    probability = torch.empty(1, 40, 96)
    first = argmax(emulation, map, input, probability=probability)
    for _ in range(2):
        other = torch.empty_like(probability)
        assert torch.equal(argmax(emulation, map, input, probability=other), first)
        assert torch.equal(other, probability)


def test_trained_scores_touch_little(emulation: Emulation) -> None:
    """Few cells are mixed, few classes are evaluated there, and labels are stored in vectors."""
    map = Map((16, 16), (128, 128), 8, 16, (4, 4))
    emulation.take_traffic()
    labels = argmax(emulation, map, scores(7, (1, 21, 16, 16), kind="trained"), torch.uint8)
    traffic = emulation.take_traffic()
    nodes = 21 * 16 * 16 * 4
    assert traffic["loaded"] < 2.2 * nodes  # tiles share nodes
    # Labels at the ends of a tile's rows are stored one by one, which is not counted.
    assert 0.95 * labels.numel() < traffic["stored"] <= labels.numel()
