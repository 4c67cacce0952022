"""The CUDA kernels of the resampling engine, run by the emulation, against the plain reference.

Inputs lie in memory full of NaN and outputs between guards: what is read or written outside, or
left out, shows. Every call draws another order of threads and blocks.
"""

from __future__ import annotations

import itertools
import mmap
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from fcn_ext import reference

if TYPE_CHECKING:
    from .conftest import Emulation

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-12,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}
GUARD = 64
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last

_seeds = itertools.count()


@dataclass(frozen=True)
class Map:
    """What the engine computes: upsample or interpolate, and between which sizes."""

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


def upsampling(
    rng: random.Random, stride: int, odd: bool, *, most: tuple[int, int] = (5, 11)
) -> Map:
    """A random upsampling, half of the time with a window of what there is."""
    kernel_size = 1 if stride == 1 else 2 * stride - odd
    size = rng.randint(1, most[0]), rng.randint(1, most[1])
    full = [(n - 1) * stride + kernel_size for n in size]
    if rng.random() < 0.5:
        return Map(size, (full[0], full[1]), stride, kernel_size)
    top, left = rng.randrange(full[0]), rng.randrange(full[1])
    window = rng.randint(1, full[0] - top), rng.randint(1, full[1] - left)
    return Map(size, window, stride, kernel_size, (top, left))


def among_nans(values: Tensor, shift: int = 0) -> Tensor:
    """The same values and strides, in a larger memory of NaN, `shift` elements past alignment."""
    if values.numel() == 0:
        return values
    reach = 1 + sum((n - 1) * s for n, s in zip(values.shape, values.stride(), strict=True))
    memory = torch.full((reach + 2 * GUARD + shift,), torch.nan, dtype=values.dtype)
    placed = memory.as_strided(values.shape, values.stride(), GUARD + shift)
    alone = tuple(slice(None) if s else slice(1) for s in values.stride())
    placed[alone] = values[alone]
    return placed


def guarded(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, shift: int
) -> tuple[Tensor, Tensor]:
    """An output full of NaN, and the memory around it, full of 7."""
    like = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=layout)
    memory = torch.full((like.numel() + 2 * GUARD + shift,), 7.0, dtype=dtype)
    output = memory.as_strided(shape, like.stride(), GUARD + shift)
    output.fill_(torch.nan)
    return output, memory


def check_guards(output: Tensor, memory: Tensor) -> None:
    begin = output.storage_offset()
    outside = torch.cat([memory[:begin], memory[begin + output.numel() :]])
    assert (outside == 7).all(), "the kernel wrote outside its output"


def strides(tensor: Tensor) -> Tensor:
    return torch.tensor(tensor.stride())


def forward(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    *,
    skip: Tensor | None = None,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> Tensor:
    batch, channels = input.shape[:2]
    output, memory = guarded((batch, channels, *map.output_size), input.dtype, layout, shift)
    problem = map.problem(batch, channels)
    emulation.set_seed(next(_seeds))
    emulation.call(
        "bilinear_forward",
        DTYPES.index(input.dtype),
        problem,
        input,
        strides(input),
        skip,
        strides(input if skip is None else skip),
        output,
        int(layout == CHANNELS_LAST),
    )
    check_guards(output, memory)
    return output


def backward(
    emulation: Emulation,
    map: Map,
    grad_output: Tensor,
    *,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> Tensor:
    batch, channels = grad_output.shape[:2]
    grad, memory = guarded((batch, channels, *map.input_size), grad_output.dtype, layout, shift)
    emulation.set_seed(next(_seeds))
    emulation.call(
        "bilinear_backward",
        DTYPES.index(grad_output.dtype),
        map.problem(batch, channels),
        grad_output,
        strides(grad_output),
        grad,
        int(layout == CHANNELS_LAST),
    )
    check_guards(grad, memory)
    return grad


def reference_backward(map: Map, grad_output: Tensor) -> Tensor:
    input = torch.zeros(*grad_output.shape[:2], *map.input_size, dtype=torch.float64)
    input.requires_grad_()
    map.reference(input).backward(grad_output.double())
    assert input.grad is not None
    return input.grad


def assert_close(actual: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[actual.dtype]
    atol = tolerance * max(1.0, expected.abs().max().item()) if expected.numel() else tolerance
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=atol)


def check_forward(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    *,
    skip: Tensor | None = None,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> None:
    expected = map.reference(input.double())
    if skip is not None:
        expected = expected + skip.double()
        skip = among_nans(skip, shift)
    output = forward(
        emulation, map, among_nans(input, shift), skip=skip, layout=layout, shift=shift
    )
    assert_close(output, expected)


def check_backward(
    emulation: Emulation,
    map: Map,
    grad_output: Tensor,
    *,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> None:
    grad = backward(emulation, map, among_nans(grad_output, shift), layout=layout, shift=shift)
    assert_close(grad, reference_backward(map, grad_output))


def values(
    rng: random.Random,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layout: torch.memory_format = CONTIGUOUS,
) -> Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=layout)


def views(tensor: Tensor) -> dict[str, Tensor]:
    """The same values under other strides."""
    n, c, h, w = tensor.shape
    wide = torch.empty(n, c + 1, h + 2, 2 * w + 3, dtype=tensor.dtype)
    sliced = wide[:, 1:, 1 : h + 1, 1 : 2 * w + 1 : 2]
    cropped = wide[:, :c, 2:, 3 : 3 + w]
    transposed = torch.empty(w, c, h, n, dtype=tensor.dtype).permute(3, 1, 2, 0)
    return {
        "sliced": sliced.copy_(tensor),
        "cropped": cropped.clone(memory_format=torch.preserve_format).copy_(tensor),
        "window": wide.clone()[:, :c, 2:, 3 : 3 + w].copy_(tensor),
        "transposed": transposed.copy_(tensor),
        "channels_last": tensor.contiguous(memory_format=CHANNELS_LAST),
    }


# ---------------------------------------------------------------- every stride, type and layout


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("odd", [False, True], ids=["2s", "2s-1"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 8, 16, 32])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_upsample(
    emulation: Emulation, dtype: torch.dtype, stride: int, odd: bool, layout: torch.memory_format
) -> None:
    rng = random.Random(f"{dtype} {stride} {odd} {layout}")
    for channels in (1, rng.choice([3, 5, 8]), 40 if stride < 8 else 4):
        map = upsampling(rng, stride, odd)
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
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_interpolate(
    emulation: Emulation,
    dtype: torch.dtype,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    align_corners: bool,
) -> None:
    rng = random.Random(f"{dtype} {sizes}")
    map = Map(*sizes, align_corners=align_corners)
    for channels, layout in ((3, CONTIGUOUS), (5, CHANNELS_LAST), (37, CHANNELS_LAST)):
        input = values(rng, (2, channels, *map.input_size), dtype, layout)
        check_forward(emulation, map, input, layout=layout)
        grad = values(rng, (2, channels, *map.output_size), dtype, layout)
        check_backward(emulation, map, grad, layout=layout)


# ---------------------------------------------------------------- sizes that need several blocks


@pytest.mark.parametrize("multiprocessors", [1, 16, 132])
@pytest.mark.parametrize(
    ("dtype", "shape", "map"),
    [
        (torch.float32, (3, 7), Map((9, 130), (67, 1033), 8, 16, (3, 5))),  # rows odd: 4 phases
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
    """Few multiprocessors mean long strips and blocks that serve several planes."""
    emulation.set_device(multiprocessors)
    rng = random.Random(multiprocessors)
    check_forward(emulation, map, values(rng, (*shape, *map.input_size), dtype))
    check_backward(emulation, map, values(rng, (*shape, *map.output_size), dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tiles_that_start_past_alignment(emulation: Emulation, dtype: torch.dtype) -> None:
    """Whole vectors make up the rows, but the columns of a block start between two of them."""
    rng = random.Random(0)
    for stride, width in itertools.product((3, 5, 7), range(2064, 2256, 16)):
        nodes = width // stride + 2
        map = Map((1, nodes), (2, width), stride, 2 * stride, (1, rng.randrange(stride)))
        check_backward(emulation, map, values(rng, (1, 1, *map.output_size), dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
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


# ---------------------------------------------------------------- strides


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("view", ["sliced", "cropped", "window", "transposed", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_strides(
    emulation: Emulation, dtype: torch.dtype, view: str, layout: torch.memory_format
) -> None:
    rng = random.Random(view)
    map = Map((4, 6), (29, 48), 8, 16, (3, 4))
    input = views(values(rng, (2, 3, *map.input_size), dtype))[view]
    skip = views(values(rng, (2, 3, *map.output_size), dtype))[view]
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

    # torch has no negative strides, the kernels do: the map of a map flipped along both axes.
    grad = values(rng, (2, 3, 30, 48), torch.float32)
    last = grad[:, :, -1:, -1:]
    output, memory = guarded((2, 3, 4, 6), torch.float32, layout, 0)
    batch, channel, row_stride, column_stride = grad.stride()
    emulation.call(
        "bilinear_backward",
        0,
        map.problem(2, 3),
        last,
        torch.tensor([batch, channel, -row_stride, -column_stride]),
        output,
        int(layout == CHANNELS_LAST),
    )
    check_guards(output, memory)
    assert_close(output, reference_backward(map, grad.flip(2, 3)))


def test_offsets_beyond_32_bits(emulation: Emulation) -> None:
    """Columns 2**30 elements apart, in memory that is never touched but for a few pages."""
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
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
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
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_traffic(emulation: Emulation, dtype: torch.dtype) -> None:
    """Forward stores vectors alone; backward loads vectors alone, each gradient about once."""
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
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
        emulation.call("bilinear_backward_spare", DTYPES.index(dtype), map.problem(1, 1), spare)
        assert (spare >= 0).all(), map
