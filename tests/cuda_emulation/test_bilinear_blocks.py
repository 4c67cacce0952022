"""The CUDA kernels of the resampling engine, emulated: sizes that need several blocks."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from .bilinear_cases import check_backward, check_forward, values
from .library import Emulation, EmulationError
from .maps import Map
from .operands import CHANNELS_LAST, CONTIGUOUS, SCORES


@pytest.mark.parametrize("multiprocessors", [1, 16, 132])
@pytest.mark.parametrize(
    ("dtype", "shape", "map"),
    [
        (torch.float32, (3, 7), Map((9, 130), (67, 1033), 8, 16, (3, 5))),  # odd rows: 4 alignments
        (torch.float32, (2, 3), Map((9, 130), (64, 1024), 8, 16, (4, 4))),  # vectors throughout
        (torch.bfloat16, (2, 3), Map((12, 700), (26, 1402), 2, 4)),
        (torch.float16, (2, 3), Map((12, 300), (40, 1199), 4, 7)),
        (torch.float64, (1, 2), Map((70, 70), (562, 560), 8, 16, (2, 6))),
        (torch.float32, (1, 2), Map((3, 40), (96, 1216), 32, 64, (16, 16))),
        (torch.float32, (1, 2), Map((300, 1500), (21, 200))),
    ],
    ids=str,
)
def test_many_blocks(
    emulation: Emulation,
    dtype: torch.dtype,
    shape: tuple[int, int],
    map: Map,
    multiprocessors: int,
) -> None:
    """Few multiprocessors mean long chunks and blocks that serve several planes."""
    emulation.set_device(multiprocessors)
    rng = random.Random(multiprocessors)
    check_forward(emulation, map, values(rng, (*shape, *map.input_size), dtype))
    check_backward(emulation, map, values(rng, (*shape, *map.output_size), dtype))


@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_tiles_that_start_past_alignment(emulation: Emulation, dtype: torch.dtype) -> None:
    """Rows are made up of whole vectors, but a block's columns start inside one."""
    rng = random.Random(0)
    for stride, width in itertools.product((3, 5, 7), range(2064, 2256, 16)):
        nodes = width // stride + 2
        map = Map((1, nodes), (2, width), stride, 2 * stride, (1, rng.randrange(stride)))
        check_backward(emulation, map, values(rng, (1, 1, *map.output_size), dtype))


@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_tiles_at_clamped_borders(emulation: Emulation, dtype: torch.dtype) -> None:
    """The first band of F.interpolate is half as long again as the others."""
    rng = random.Random(0)
    for nodes in (2, 3, 4, 5, 6, 9, 14):
        map = Map((1, nodes), (2, rng.choice([1848, 3001, 4676])))
        check_backward(emulation, map, values(rng, (1, 2, *map.output_size), dtype))


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(torch.float32, 21), (torch.bfloat16, 150), (torch.float32, 150), (torch.float64, 33)],
    ids=str,
)
@pytest.mark.parametrize("stride", [4, 32])
def test_many_blocks_channels_last(
    emulation: Emulation, dtype: torch.dtype, channels: int, stride: int
) -> None:
    emulation.set_device(4)
    rng = random.Random(channels)
    map = Map((3, 10), (3 * stride, 10 * stride), stride, 2 * stride, (stride // 2, stride // 2))
    input = values(rng, (1, channels, *map.input_size), dtype, CHANNELS_LAST)
    check_forward(emulation, map, input, layout=CHANNELS_LAST)
    grad = values(rng, (1, channels, *map.output_size), dtype, CHANNELS_LAST)
    check_backward(emulation, map, grad, layout=CHANNELS_LAST)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    "map",
    [
        Map((2, 2), (600, 5000)),
        Map((1, 1), (300, 2500)),
        Map((2, 3), (7, 5003), align_corners=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_input_column_read_by_thousands(
    emulation: Emulation, dtype: torch.dtype, map: Map, layout: torch.memory_format
) -> None:
    rng = random.Random(0)
    check_forward(
        emulation, map, values(rng, (1, 2, *map.input_size), dtype, layout), layout=layout
    )
    grad = values(rng, (1, 2, *map.output_size), dtype, layout)
    check_backward(emulation, map, grad, layout=layout)


def test_more_planes_than_a_grid_dimension(emulation: Emulation) -> None:
    emulation.set_device(1)
    rng = random.Random(0)
    map = Map((1, 1), (2, 2), 2, 4, (1, 1))
    check_forward(emulation, map, values(rng, (70001, 1, 1, 1), torch.float32))
    check_backward(emulation, map, values(rng, (70001, 1, 2, 2), torch.float32))


@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_tiles_hold_what_they_must(emulation: Emulation, dtype: torch.dtype) -> None:
    rng = random.Random(0)
    spare = torch.empty(2, dtype=torch.int64)
    vector = 16 // dtype.itemsize
    for _ in range(3000):
        width = vector * rng.randint(1, 1200)
        stride = rng.randint(2, 40)
        kernel_size, offset = 2 * stride - rng.randint(0, 1), rng.randrange(2 * stride)
        nodes = (width + offset) // stride + 2
        map = Map((1, nodes), (2, width), stride, kernel_size, (0, offset))
        if rng.random() < 0.5:
            nodes = rng.randint(1, rng.choice([40, 3000]))
            map = Map((1, nodes), (2, width), align_corners=rng.random() < 0.5)
        emulation.call("bilinear_backward_spare", dtype, map.geometry(1, 1), spare)
        assert (spare >= 0).all(), map


def test_blocks_are_planned_for_the_device(emulation: Emulation) -> None:
    """Before sm_90 a multiprocessor holds two blocks of a float's backward, from then on three."""

    def chunk_rows(dtype: torch.dtype, map: Map, capability: int) -> int:
        emulation.set_device(multiprocessors=4, capability=capability)
        rows = torch.zeros(1, dtype=torch.int64)
        emulation.call("bilinear_backward_chunk_rows", dtype, map.geometry(1, 3), rows)
        return int(rows)

    maps = [Map((nodes, 64), (8 * nodes, 512), 8, 16, (4, 4)) for nodes in range(16, 80)]
    for dtype in SCORES:
        plans = [[chunk_rows(dtype, map, sm) for map in maps] for sm in (75, 80, 89, 90, 120)]
        assert plans[0] == plans[1] == plans[2]
        assert plans[3] == plans[4]
        assert (plans[2] == plans[3]) == (dtype == torch.float64)
    rng = random.Random(0)
    for capability in (80, 90):
        emulation.set_device(multiprocessors=4, capability=capability)
        check_backward(emulation, maps[5], values(rng, (1, 3, *maps[5].output_size), torch.float32))


def test_more_blocks_than_a_grid_has_are_refused(emulation: Emulation) -> None:
    """More outputs read an input column than a block holds, so each of its rows is a block."""
    map = Map((2**21, 2**12), (1, 2**23))
    nothing = torch.zeros(1)
    emulation.take_launches(lambda launch: pytest.fail(f"grid {launch.grid}"))
    try:
        with pytest.raises(EmulationError, match=r"fewer than 2\*\*31 blocks of a GPU, got \d+$"):
            emulation.call(
                "bilinear_backward",
                torch.float32,
                map.geometry(1, 1),
                nothing,
                (2**23, 2**23, 2**23, 1),
                nothing,
                0,
            )
    finally:
        emulation.take_launches(None)
