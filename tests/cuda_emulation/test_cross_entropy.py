"""The fused cross-entropy's CUDA kernels, emulated, against plain float64 PyTorch: every shape."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from .cross_entropy_cases import (
    IGNORE,
    MAPS,
    Case,
    call,
    call_pixels,
    check,
    close,
    expected,
    labels,
    scores,
)
from .maps import Map, scaling, upsampling
from .operands import CHANNELS_LAST, CONTIGUOUS, LABELS, SCORES, among_nans, laid_out

if TYPE_CHECKING:
    from .library import Emulation


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
    check(emulation, case, input, target, side=stride, pixels=True)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["planar", "interleaved"])
@pytest.mark.parametrize("clamped", [True, False], ids=["clamped", "zero"])
@pytest.mark.parametrize(
    ("stride", "size"), [(2, (33, 33)), (4, (33, 33)), (8, (16, 32)), (16, (8, 17)), (32, (4, 9))]
)
def test_nodes_between_tiles(
    emulation: Emulation,
    stride: int,
    size: tuple[int, int],
    clamped: bool,
    layout: torch.memory_format,
) -> None:
    """Three by three tiles: nodes at every place on a rim, cropped tiles, empty tiles."""
    generator = torch.Generator().manual_seed(stride)
    crop = (
        (0, 9 * stride // (1 + stride // 16), stride + 1, 3) if layout == CONTIGUOUS else (0,) * 4
    )
    map = scaling(size, stride) if clamped else upsampling(size, stride, crop=crop)
    case = Case(map, label_smoothing=0.1, gradient_layout=layout)
    input = scores(generator, (2, 2, *size))
    # Winners alternate, so the pixels halfway between them are computed again.
    middle = size[0] // 2
    input[1, 0, middle, ::2] += 80
    input[1, 1, middle, 1::2] += 80
    target = labels(generator, (2, *map.output_size), 2, block=stride + 3)
    check(emulation, case, input, target, side=stride, pixels=True)


@pytest.mark.parametrize("clamped", [True, False], ids=["clamped", "zero"])
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(
    ("size", "pitch"), [((5, 16), 16), ((19, 28), 28), ((3, 4), 4), ((2, 26), 28), ((2, 1), 4)]
)
def test_scores_that_come_four_at_a_time(
    emulation: Emulation, size: tuple[int, int], pitch: int, stride: int, clamped: bool
) -> None:
    """Rows of the map at multiples of 16 bytes are copied four scores at a time; one element
    further on, the same scores are copied one by one and give the same bits."""
    generator = torch.Generator().manual_seed(stride)
    height, width = size
    crop = (0, stride + 1, 3, 1)
    map = scaling(size, stride) if clamped else upsampling(size, stride, crop=crop)
    values = torch.randn((2, 8, height, pitch), generator=generator)[..., :width]
    values = among_nans(values)
    shifted = among_nans(values, shift=1)
    assert values.data_ptr() % 16 == 0
    assert shifted.data_ptr() % 16 == 4
    target = labels(generator, (2, *map.output_size), 8)
    case = Case(map)
    check(emulation, case, values, target, side=stride)
    one, other = (call(emulation, case, input, target) for input in (values, shifted))
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.gradient, other.gradient)


@pytest.mark.parametrize(
    ("clamped", "layout"),
    [(True, CONTIGUOUS), (False, CHANNELS_LAST)],
    ids=["clamped-planar", "zero-interleaved"],
)
def test_many_tiles(emulation: Emulation, clamped: bool, layout: torch.memory_format) -> None:
    """More than 2048 tiles of 4-pixel cells, which are larger then."""
    generator = torch.Generator().manual_seed(0)
    size, batch, classes = (16, 20), 515, 6
    map = scaling(size, 4) if clamped else upsampling(size, 4, crop=(2, 0, 0, 5))
    case = Case(map, gradient_layout=layout)
    input = scores(generator, (batch, classes, *size)).contiguous(memory_format=layout)
    target = labels(generator, (batch, *map.output_size), classes, block=7)
    wanted = expected(case, input, target)
    result = call(emulation, case, input, target)
    close(result.loss, wanted.loss.sum(), 1e-6)
    close(result.total_weight, wanted.total_weight, 1e-6)
    close(result.gradient, wanted.gradient, 1e-5)


@pytest.mark.parametrize("clamped", [True, False], ids=["clamped", "zero"])
@pytest.mark.parametrize("size", [(2, 3), (14, 4), (16, 2), (17, 17), (1, 20)], ids=str)
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_cells_above_each_other(
    emulation: Emulation, stride: int, size: tuple[int, int], clamped: bool
) -> None:
    """A thread takes two small cells, one above the other, and at the map's end maybe only the
    upper one. If the map ends after a tile's first columns, threads take these column by column."""
    generator = torch.Generator().manual_seed(stride)
    crop = (1, stride + 1, 0, 0) if size[0] > 1 else (0,) * 4
    map = scaling(size, stride) if clamped else upsampling(size, stride, crop=crop)
    weight = torch.rand(7, generator=generator)
    for case in (Case(map), Case(map, weight, 0.1, gradient_layout=CHANNELS_LAST)):
        input = scores(generator, (2, 7, *size))
        # Pixels that are computed again, in both cells of a thread; and a class masked everywhere.
        input[0, 0, ::2] += 80
        input[0, 1, 1::2] += 80
        input[1, 6] = -torch.inf
        target = labels(generator, (2, *map.output_size), 6, block=2 * stride)
        some = slice(0, 2 if case.label_smoothing == 0 else 1)  # or the loss is infinite
        check(emulation, case, input[some], target[some], pixels=True)
    nothing = torch.full_like(target, IGNORE)
    check(emulation, Case(map), input, nothing, pixels=True)


@pytest.mark.parametrize(("stride", "size"), [(2, (28, 33)), (4, (25, 20)), (16, (5, 17))])
def test_the_bits_are_the_same_whoever_comes_last(
    emulation: Emulation, stride: int, size: tuple[int, int]
) -> None:
    """For nodes between two or four tiles, the last block adds up the parts of their gradients."""
    generator = torch.Generator().manual_seed(stride)
    case = Case(scaling(size, stride))
    input = scores(generator, (2, 7, *size))
    target = labels(generator, (2, *case.map.output_size), 7, block=5)
    factor = torch.randn(target.shape, generator=generator)
    first = call(emulation, case, input, target)
    of_pixels = call_pixels(emulation, case, input, target, factor)[1]
    for turn in range(6):
        other = replace(case, gradient_layout=CHANNELS_LAST if turn % 2 else CONTIGUOUS)
        again = call(emulation, other, input, target)
        assert torch.equal(again.loss, first.loss)
        assert torch.equal(again.gradient, first.gradient)
        assert torch.equal(call_pixels(emulation, other, input, target, factor)[1], of_pixels)


def test_an_image_has_the_gradient_that_it_has_alone(emulation: Emulation) -> None:
    """More classes than a block has threads."""
    generator = torch.Generator().manual_seed(3)
    case = Case(scaling((9, 2), 2))
    input = scores(generator, (35, 1000, 9, 2))
    target = labels(generator, (35, *case.map.output_size), 1000, torch.int16)
    together = call(emulation, case, input, target).gradient
    for image in (0, 1, 17, 33, 34):
        some = slice(image, image + 1)
        assert torch.equal(
            call(emulation, case, input[some], target[some]).gradient, together[some]
        )


@pytest.mark.parametrize("name", MAPS)
def test_maps_agree_with_the_reference_of_the_package(name: str) -> None:
    map = MAPS[name]
    generator = torch.Generator().manual_seed(0)
    input = torch.randn((2, 3, *map.input_size), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(map(input), map.reference(input), rtol=1e-12, atol=1e-12)


# The side of the tile kernel's cells; other shapes go to the direct kernels.
SIDES = {
    "stride 1": 2,
    "stride 3": 4,
    "stride 3 cropped": 4,
    "stride 8 odd": 8,
    "stride 4 odd cropped": 4,
    "stride 8": 8,
    "scale 4": 4,
    "any size": 8,
    "corners": 8,
    "two strides": 8,
    "window": 8,
    "window to the corner": 8,
}


@pytest.mark.parametrize("dtype", SCORES, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_maps(emulation: Emulation, name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(len(name))
    map, classes = MAPS[name], 7
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
    for case in (Case(map), Case(map, weight, 0.1, gradient_layout=CHANNELS_LAST)):
        input = scores(generator, (2, classes, *map.input_size), dtype)
        target = labels(generator, (2, *map.output_size), classes, torch.int64, void=0.2)
        side = 0 if dtype == torch.float64 else SIDES.get(name, 0)
        check(emulation, case, input, target, side=side, pixels=True)


@pytest.mark.parametrize("stride", [2, 8, 32])
def test_one_class(emulation: Emulation, stride: int) -> None:
    map = scaling((2, 3), stride)
    input = scores(torch.Generator().manual_seed(1), (1, 1, 2, 3))
    target = torch.zeros(1, *map.output_size, dtype=torch.uint8)
    # Each of a corner's 9/4 stride^2 pixels may be off by an ulp: in the reciprocal of one.
    for approximation, bound in (("exact", 1e-7), ("random", 2.25 * 1.2e-7)):
        emulation.set_approximation(approximation)
        result = call(emulation, Case(map), input, target)
        assert result.loss == 0
        assert result.total_weight == target.numel()
        assert result.gradient.abs().max() <= bound * stride**2


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
    check(emulation, case, input, target, side=stride, pixels=True)


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "any size", "down"])
def test_layouts(emulation: Emulation, name: str) -> None:
    generator = torch.Generator().manual_seed(9)
    case = Case(MAPS[name])
    input = scores(generator, (2, 8, *case.map.input_size))
    target = labels(generator, (2, *case.map.output_size), 8, torch.int32)
    plain = call(emulation, case, input, target)
    layouts = ["window", "reversed", "every other column"]
    for layout in [*layouts, "channels last"]:
        other = laid_out(input, layout)
        for gradient_layout in (CONTIGUOUS, CHANNELS_LAST):
            result = call(emulation, replace(case, gradient_layout=gradient_layout), other, target)
            assert torch.equal(result.gradient, plain.gradient)
            assert torch.equal(result.loss, plain.loss)
    for layout in layouts:
        other = laid_out(target, layout)
        assert torch.equal(call(emulation, case, input, other).gradient, plain.gradient)
    same = input[:1, :, :1, :1].expand(2, 8, *case.map.input_size)
    check(emulation, case, same, target[:1].expand(2, -1, -1))


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "corners", "down"])
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
    factor = torch.randn(target.shape, generator=generator)
    first, *others = [call_pixels(emulation, case, input, target, factor) for _ in range(3)]
    for losses, gradient in others:
        assert torch.equal(losses, first[0])
        assert torch.equal(gradient, first[1])


@pytest.mark.parametrize("dtype", SCORES, ids=str)
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
    check(emulation, case, input, target, side=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.0, -2.5, torch.nan])
@pytest.mark.parametrize("count", [0, 1, 255, 5000])
def test_scale_gradient(
    emulation: Emulation, count: int, factor: float, dtype: torch.dtype
) -> None:
    gradient = torch.randn(count, generator=torch.Generator().manual_seed(count)).to(dtype)
    expected = gradient * factor
    scalar = torch.tensor(factor, dtype=dtype)
    emulation.set_device(multiprocessors=1)
    emulation.call("scale_gradient", SCORES.index(dtype), count, gradient, scalar)
    assert torch.equal(gradient.nan_to_num(7), expected.nan_to_num(7))


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize(("classes", "reads_labels_twice"), [(8, True), (7, False)])
def test_a_mean_touches_the_smaller_of_labels_and_gradient_twice(
    emulation: Emulation, classes: int, reads_labels_twice: bool, layout: torch.memory_format
) -> None:
    """Eight bytes per node and class are read and written, against 64 one-byte labels."""
    generator = torch.Generator().manual_seed(4)
    case = Case(scaling((3, 5), 8), gradient_layout=layout)
    input = scores(generator, (2, classes, 3, 5))
    target = labels(generator, (2, 24, 40), classes)
    check(emulation, case, input, target, side=8)
    launched = []
    emulation.take_launches(lambda launch: launched.append(launch.kernel))
    try:
        call(emulation, case, input, target, mean=True)
    finally:
        emulation.take_launches(None)
    assert any("total_weight_kernel" in kernel for kernel in launched) == reads_labels_twice
    assert any("scale_kernel" in kernel for kernel in launched) != reads_labels_twice
