"""The CUDA kernels of the resampling engine, emulated: maps, types, layouts, and promises."""

from __future__ import annotations

import mmap
import random
from typing import TYPE_CHECKING

import pytest
import torch

from .bilinear_cases import (
    assert_close,
    backward,
    check_backward,
    check_forward,
    forward,
    reference_backward,
    values,
)
from .maps import Map, random_upsampling, windows
from .operands import CHANNELS_LAST, CONTIGUOUS, SCORES, check_guards, guarded, laid_out

if TYPE_CHECKING:
    from .library import Emulation


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("odd", [False, True], ids=["2s", "2s-1"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 8, 16, 32])
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_upsample(
    emulation: Emulation, dtype: torch.dtype, stride: int, odd: bool, layout: torch.memory_format
) -> None:
    rng = random.Random(f"{dtype} {stride} {odd} {layout}")
    for channels in (1, rng.choice([3, 5, 8]), 40 if stride < 8 else 4):
        map = random_upsampling(rng, stride, odd=odd, most=(5, 11))
        shape = 2, channels
        shift = rng.choice([0, 0, 1, 2, 5])
        input = values(rng, (*shape, *map.input_size), dtype, layout)
        check_forward(emulation, map, input, layout=layout, shift=shift)
        grad = values(rng, (*shape, *map.output_size), dtype, layout)
        check_backward(emulation, map, grad, layout=layout, shift=shift)


INTERPOLATIONS = [
    ((4, 7), (8, 14)),  # whole strides
    ((4, 7), (32, 28)),
    ((5, 6), (13, 17)),
    ((13, 17), (5, 6)),  # down
    ((40, 30), (4, 3)),
    ((3, 9), (9, 3)),
    ((1, 1), (3, 5)),
    ((6, 5), (1, 1)),
    ((1, 8), (9, 8)),
    ((6, 5), (6, 5)),  # the identity
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", INTERPOLATIONS, ids=str)
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_interpolate(
    emulation: Emulation,
    dtype: torch.dtype,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    align_corners: bool,
) -> None:
    rng = random.Random(f"{dtype} {sizes}")
    maps = windows(rng, Map(*sizes, align_corners=align_corners))
    calls = [(3, CONTIGUOUS), (5, CHANNELS_LAST), (4, CONTIGUOUS), (37, CHANNELS_LAST)]
    for index, (channels, layout) in enumerate(calls):
        map = maps[index % len(maps)]
        input = values(rng, (2, channels, *map.input_size), dtype, layout)
        check_forward(emulation, map, input, layout=layout)
        grad = values(rng, (2, channels, *map.output_size), dtype, layout)
        check_backward(emulation, map, grad, layout=layout)


# ---------------------------------------------------------------- strides


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    "view", ["every other column", "contiguous", "window", "reversed", "channels last"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_strides(
    emulation: Emulation, dtype: torch.dtype, view: str, layout: torch.memory_format
) -> None:
    rng = random.Random(view)
    map = Map((4, 6), (29, 48), 8, 16, (3, 4))
    input = laid_out(values(rng, (2, 3, *map.input_size), dtype), view)
    skip = laid_out(values(rng, (2, 3, *map.output_size), dtype), view)
    check_forward(emulation, map, input, skip=skip, layout=layout)
    check_backward(emulation, map, skip, layout=layout)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
def test_expanded_and_reversed(emulation: Emulation, layout: torch.memory_format) -> None:
    map = Map((4, 6), (30, 48), 8, 16, (3, 4))
    ones = torch.ones(())
    check_backward(emulation, map, ones.expand(2, 3, 30, 48), layout=layout)
    rng = random.Random(0)
    row = values(rng, (48,), torch.float32)
    check_backward(emulation, map, row.expand(2, 3, 30, 48), layout=layout)

    # torch has no negative strides, but the kernels take them: a map flipped along both axes.
    grad = values(rng, (2, 3, 30, 48), torch.float32)
    last = grad[:, :, -1:, -1:]
    output, memory = guarded((2, 3, 4, 6), torch.float32, layout)
    batch, channel, row_stride, column_stride = grad.stride()
    emulation.call(
        "bilinear_backward",
        grad.dtype,
        map.geometry(2, 3),
        last,
        (batch, channel, -row_stride, -column_stride),
        output,
        int(layout == CHANNELS_LAST),
    )
    check_guards(output, memory)
    assert_close(output, reference_backward(map, grad.flip(2, 3)))


def test_offsets_beyond_32_bits(emulation: Emulation) -> None:
    """Columns 2**30 elements apart, in memory of which only a few pages are touched."""
    distance = 2**30
    untouched = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    with mmap.mmap(-1, 4 * 4 * distance, flags=untouched) as pages:
        memory = torch.frombuffer(pages, dtype=torch.float32)
        rng = random.Random(0)
        map = Map((2, 4), (4, 8), 2, 4, (1, 1))
        input = memory.as_strided((1, 2, 2, 4), (4, 2, 1, distance))
        input.copy_(values(rng, (1, 2, 2, 4), torch.float32))
        assert_close(forward(emulation, map, input), map.reference(input.double()))
        halved = Map((2, 2), (2, 4), 2, 4, (1, 1))
        expected = reference_backward(halved, input.contiguous())
        assert_close(backward(emulation, halved, input), expected)
        del memory, input


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_skip_window(
    emulation: Emulation, dtype: torch.dtype, shift: int, layout: torch.memory_format
) -> None:
    rng = random.Random(shift)
    map = Map((5, 9), (12, 20), 2, 4)
    input = values(rng, (2, 3, *map.input_size), dtype, layout)
    whole = values(rng, (2, 3, 12 + 5, 20 + 5), dtype, layout)
    check_forward(
        emulation, map, input, skip=whole[:, :, shift:, shift:][:, :, :12, :20], layout=layout
    )
    aligned = values(rng, (2, 3, *map.output_size), dtype, layout)
    check_forward(emulation, map, input, skip=aligned, layout=layout, shift=shift)


# ---------------------------------------------------------------- what the design promises


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty(emulation: Emulation, shape: tuple[int, int]) -> None:
    map = Map((3, 4), (6, 8), 2, 4, (1, 1))
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        forward(emulation, map, torch.zeros(*shape, 3, 4), layout=layout)
        backward(emulation, map, torch.zeros(*shape, 6, 8), layout=layout)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_infinity_stays_with_its_readers(
    emulation: Emulation, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    """With kernel 2s - 1 some outputs lie on a node and do not read the next one."""
    stride = 4
    map = Map((5, 9), (23, 39), stride, 2 * stride - 1)
    input = torch.zeros(1, 2, 5, 9, dtype=dtype).contiguous(memory_format=layout)
    input[0, 1, 2, 6] = torch.inf
    expected = torch.zeros(1, 2, 23, 39, dtype=dtype)
    expected[0, 1, 2 * stride : 2 * stride + 7, 6 * stride : 6 * stride + 7] = torch.inf
    assert torch.equal(forward(emulation, map, input, layout=layout), expected)

    grad = torch.zeros(1, 2, 23, 39, dtype=dtype).contiguous(memory_format=layout)
    grad[0, 0, 2 * stride + 3, 6 * stride + 3] = torch.inf  # on the node (2, 6)
    grad_expected = torch.zeros(1, 2, 5, 9, dtype=dtype)
    grad_expected[0, 0, 2, 6] = torch.inf
    assert torch.equal(backward(emulation, map, grad, layout=layout), grad_expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_order_of_threads_changes_a_bit(emulation: Emulation, dtype: torch.dtype) -> None:
    rng = random.Random(0)
    map = Map((7, 33), (45, 259), 8, 16, (3, 5))
    input = values(rng, (2, 3, *map.input_size), dtype)
    grad = values(rng, (2, 3, *map.output_size), dtype)
    outputs = [forward(emulation, map, input) for _ in range(5)]
    grads = [backward(emulation, map, grad) for _ in range(5)]
    assert all(torch.equal(other, outputs[0]) for other in outputs)
    assert all(torch.equal(other, grads[0]) for other in grads)


@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_traffic(emulation: Emulation, dtype: torch.dtype) -> None:
    """Forward only stores vectors; backward only loads vectors, each gradient about once."""
    emulation.set_device(2)
    rng = random.Random(0)
    map = Map((33, 64), (256, 512), 8, 16, (4, 4))
    input, grad = (values(rng, (2, 3, *size), dtype) for size in (map.input_size, map.output_size))
    bytes_of_map = grad.numel() * grad.element_size()
    emulation.take_traffic()
    forward(emulation, map, input)
    traffic = emulation.take_traffic()
    assert traffic["stored"] == bytes_of_map == 16 * traffic["vector_stores"]
    backward(emulation, map, grad)
    traffic = emulation.take_traffic()
    assert traffic["loaded"] == 16 * traffic["vector_loads"]
    assert bytes_of_map <= traffic["loaded"] <= 1.2 * bytes_of_map
