"""The CUDA kernels of region_sums, on the host: sums and gradients against plain PyTorch."""

from __future__ import annotations

import pytest
import torch

from .cross_entropy_cases import IGNORE, MAPS, close, labels, scores
from .library import Emulation
from .maps import Map
from .operands import LABELS, SCORES
from .region_sums_cases import Case, call, check, expected, side_of


@pytest.mark.parametrize("dtype", SCORES, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_any_map_and_type(emulation: Emulation, name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(len(name))
    map = MAPS[name]
    target = labels(generator, (2, *map.output_size), 5)
    input = scores(generator, (2, 5, *map.input_size), dtype)
    weight = torch.rand(5, generator=generator)
    check(emulation, Case(map), input, target)
    for squared in (False, True):
        check(emulation, Case(map, squared=squared, losses=True, weight=weight), input, target)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("two strides", 8),
        ("scale 4", 4),
        ("stride 3", 4),
        ("stride 8 odd", 8),
        ("any size", 8),
        ("stride 40", 0),
        ("down", 0),
    ],
)
def test_which_kernel(emulation: Emulation, name: str, side: int) -> None:
    """Any ratio from 1 to 32 goes to the tile kernels; double scores and squares do not."""
    map = MAPS[name]
    target = torch.zeros((1, *map.output_size), dtype=torch.uint8)
    for squared in (False, True):
        for dtype in SCORES:
            input = torch.zeros((1, 3, *map.input_size), dtype=dtype)
            expected_side = 0 if squared or dtype == torch.float64 else side
            assert side_of(emulation, Case(map, squared), input, target) == expected_side


@pytest.mark.parametrize("name", ["scale 4", "stride 8", "any size", "corners", "two strides"])
def test_scores_far_apart(emulation: Emulation, name: str) -> None:
    """Scores beyond the reach of progressions, and pixels that are computed one by one."""
    generator = torch.Generator().manual_seed(11)
    map = MAPS[name]
    target = labels(generator, (2, *map.output_size), 5)
    for scale in (30.0, 200.0):
        input = scores(generator, (2, 5, *map.input_size), scale=scale)
        for losses in (False, True):
            check(emulation, Case(map, losses=losses), input, target)
    input = scores(generator, (2, 5, *map.input_size))
    input[0, :2, -1, 1:3] = torch.tensor([[120.0, 0.0], [0.0, 120.0]])
    case = Case(map, losses=True, weight=torch.rand(5, generator=generator))
    check(emulation, case, input, target)


@pytest.mark.parametrize("squared", [False, True])
def test_scores_that_are_nan(emulation: Emulation, squared: bool) -> None:
    generator = torch.Generator().manual_seed(12)
    map = MAPS["stride 8"]
    input = scores(generator, (2, 4, *map.input_size))
    target = labels(generator, (2, *map.output_size), 4, void=0.0)
    input[0, 1, 2, 2] = torch.nan
    case = Case(map, squared=squared, losses=True)
    grads = torch.rand(3 + squared, 2, 4), torch.rand(2, 2)
    sums, losses, gradient = call(emulation, case, input, target, *grads)
    assert sums[0, 0].isnan().all()
    assert losses[0, 0].isnan()
    assert gradient[0].isnan().any()
    wanted = expected(case, input, target, *grads)
    close(sums[:, 1], wanted[0][:, 1], 2e-6, 1e-3)
    close(gradient[1], wanted[2][1], 1e-5, 1e-4)


@pytest.mark.parametrize("classes", [1, 2, 8, 9, 30, 70])
def test_any_number_of_classes(emulation: Emulation, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    map = MAPS["stride 8"]
    target = labels(generator, (1, *map.output_size), classes)
    input = scores(generator, (1, classes, *map.input_size))
    for squared in (False, True):
        check(emulation, Case(map, squared=squared, losses=True), input, target)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_any_label_type_and_layout(emulation: Emulation, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    map = MAPS["any size"]
    target = labels(generator, (2, *map.output_size), 6, dtype).transpose(1, 2).contiguous()
    input = scores(generator, (2, 6, *map.input_size)).contiguous(memory_format=torch.channels_last)
    case = Case(map, losses=True, gradient_layout=torch.channels_last)
    check(emulation, case, input, target.transpose(1, 2))


def test_many_pieces_of_one_block(emulation: Emulation) -> None:
    """More pieces of rows than blocks, so that parts of the workspace are added to."""
    generator = torch.Generator().manual_seed(4)
    map = Map((30, 1), (4200, 2))
    target = labels(generator, (1, *map.output_size), 2)
    input = scores(generator, (1, 2, *map.input_size))
    check(emulation, Case(map, squared=True, losses=True), input, target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_more_images_than_a_grid_has_rows(emulation: Emulation, dtype: torch.dtype) -> None:
    case = Case(Map((1, 1), (1, 1)), squared=True, losses=True)
    images = 2**16 + 1
    input = torch.zeros((1, 2, 1, 1), dtype=dtype).expand(images, -1, -1, -1)
    target = torch.zeros((1, 1, 1), dtype=torch.int64).expand(images, -1, -1)
    grids: list[tuple[int, ...]] = []
    emulation.take_launches(lambda launch: grids.append(launch.grid))
    try:
        grads = torch.zeros(4, images, 2, dtype=dtype), torch.zeros(2, images, dtype=dtype)
        call(emulation, case, input, target, *grads)
    finally:
        emulation.take_launches(None)
    assert grids[0] == (images, 1, 1)
    assert max(y for _, y, _ in grids) < 2**16


@pytest.mark.parametrize("squared", [False, True])
def test_void_and_masked_classes(emulation: Emulation, squared: bool) -> None:
    generator = torch.Generator().manual_seed(6)
    map = MAPS["stride 8"]
    input = scores(generator, (2, 4, *map.input_size))
    target = labels(generator, (2, *map.output_size), 3)
    target[1] = IGNORE
    low = input.clone()
    input[:, 3], low[:, 3] = -torch.inf, -1e5
    grads = torch.rand(3 + squared, 2, 4), torch.rand(2, 2)
    case = Case(map, squared=squared, losses=True)
    sums, losses, gradient = call(emulation, case, input, target, *grads)
    wanted = expected(case, low, target, *grads)
    close(sums, wanted[0], 2e-6, 1e-3)
    close(losses, wanted[1], 2e-6)
    close(gradient, wanted[2], 1e-5, 1e-4)
    assert sums[:, 1].abs().sum() == losses[:, 1].abs().sum() == gradient[1].abs().sum() == 0


def test_an_invalid_label_makes_its_image_nan(emulation: Emulation) -> None:
    generator = torch.Generator().manual_seed(7)
    map = MAPS["stride 8"]
    input = scores(generator, (2, 4, *map.input_size))
    target = labels(generator, (2, *map.output_size), 4)
    target[0, 0, 0] = 9
    case = Case(map, losses=True)
    sums, losses, gradient = call(
        emulation, case, input, target, torch.rand(3, 2, 4), torch.rand(2, 2)
    )
    assert sums[0, 0].isnan().all()
    assert losses[0, 0].isnan()
    assert gradient[0].isnan().any()
    assert sums[:, 1].isfinite().all()
    assert gradient[1].isfinite().all()


@pytest.mark.parametrize("squared", [False, True])
def test_the_same_bits_in_any_order_of_threads(emulation: Emulation, squared: bool) -> None:
    generator = torch.Generator().manual_seed(8)
    map = MAPS["any size"]
    input = scores(generator, (2, 6, *map.input_size))
    target = labels(generator, (2, *map.output_size), 6)
    grads = torch.rand(3 + squared, 2, 6), torch.rand(2, 2)
    case = Case(map, squared=squared, losses=True)
    first = call(emulation, case, input, target, *grads)
    for _ in range(3):
        again = call(emulation, case, input, target, *grads)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
