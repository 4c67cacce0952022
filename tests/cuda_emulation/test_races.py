"""The race checker (races/races.h) finds planted races, and none in the kernels.

FCN_EXT_RACES=1 makes it check the kernels in all other tests of this folder, too.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from . import (
    argmax_cases,
    bilinear_cases,
    confusion_matrix_cases,
    cross_entropy_cases,
    region_sums_cases,
)
from .cross_entropy_cases import Case
from .maps import Map, scaling, upsampling
from .operands import CHANNELS_LAST, CONTIGUOUS, INF, accumulated, blocks

if TYPE_CHECKING:
    from .library import Emulation

# The cases of races/planted/planted.cpp: what is found, and where nothing is.
READ, WRITE, ATOMIC = "a read", "a write", "an atomic operation"
COPY_READ, COPY_WRITE = "an unfinished copy's read", "an unfinished copy's write"
PLANTED = [
    ("write, read: no barrier", WRITE, READ),
    ("different values", WRITE, WRITE),
    ("same byte", WRITE, WRITE),
    ("same values of different sizes", WRITE, WRITE),
    ("flag: no barrier", WRITE, READ),
    ("range: no barrier", WRITE, READ),
    ("warp: nowhere", WRITE, READ),
    ("warp: other lanes", WRITE, READ),
    ("broken chain of lanes", WRITE, READ),
    ("atomic and plain", ATOMIC, WRITE),
    ("global: no barrier", WRITE, READ),
    ("blocks write", WRITE, WRITE),
    ("blocks read others'", WRITE, READ),
    ("arrivals: no barrier before", WRITE, READ),
    ("arrivals: no fence before", WRITE, READ),
    ("arrivals: no fence after", WRITE, READ),
    ("arrivals: no barrier after", WRITE, READ),
    ("arrivals: one too early", READ, WRITE),
    ("arrivals passed on: no fence", WRITE, READ),
    ("copy: no wait", COPY_WRITE, READ),
    ("neighbor's copy: no barrier", WRITE, READ),
    ("copy: source written", COPY_READ, WRITE),
]
CORRECT = ["write, read", "same values", "different bytes", "sizes", "flag", "range", "warp"]
CORRECT += ["chain of lanes", "atomic", "global", "blocks", "blocks read own", "copy"]
CORRECT += ["neighbor's copy", "arrivals", "arrivals passed on"]
SHUFFLES = ["warp: shuffle", "warp: vote"]


@pytest.mark.parametrize("strict", [0, 1])
@pytest.mark.parametrize(("case", "one", "other"), PLANTED)
def test_race_is_found(checked: Emulation, case: str, one: str, other: str, strict: int) -> None:
    checked.call("races_set_strict", strict)
    with pytest.raises(RuntimeError, match=r"race in \w+_kernel") as found:
        checked.call("planted_race", case)
    races = str(found.value).split("race in ")[1:]
    kinds = [[line.strip().split(" of ")[0] for line in race.splitlines()[1:4:2]] for race in races]
    assert [one, other] in kinds or [other, one] in kinds
    for race in races:
        assert race.count("at races/planted/planted.cpp:") == 2
    shared = not case.startswith(("global", "blocks", "atomic", "arrivals", "copy: source"))
    assert any(("of shared memory" if shared else "global memory at 0x") in race for race in races)


@pytest.mark.parametrize("case", [*CORRECT, *SHUFFLES])
def test_no_race_is_found_where_there_is_none(checked: Emulation, case: str) -> None:
    checked.call("races_set_strict", 0)
    checked.call("planted_race", case)


def test_strictly_a_shuffle_orders_no_memory(checked: Emulation) -> None:
    checked.call("races_set_strict", 1)
    for case in CORRECT:
        checked.call("planted_race", case)
    for case in SHUFFLES:
        with pytest.raises(RuntimeError, match="race in warp_kernel"):
            checked.call("planted_race", case)


def test_a_race_does_not_outlive_its_call(checked: Emulation) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match="race in write_read_kernel"):
            checked.call("planted_race", "write, read: no barrier")
        checked.call("planted_race", "write, read")


# ---------------------------------------------------------------- the kernels


@pytest.fixture
def strictly(checked: Emulation) -> Emulation:
    """Only barriers and __syncwarp() order memory."""
    checked.call("races_set_strict", 1)
    return checked


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    "map",
    [
        *(upsampling((3, 11), 2, crop=(1, 0, 2, 0)), upsampling((2, 9), 8), scaling((2, 3), 32)),
        *(Map((5, 6), (13, 17), align_corners=True), Map((13, 17), (5, 6))),
    ],
    ids=["s2", "s8", "x32", "up", "down"],
)
def test_bilinear(strictly: Emulation, map: Map, layout: torch.memory_format) -> None:
    rng = random.Random(1)
    for channels, dtype in ((3, torch.float32), (40, torch.float16)):
        input = bilinear_cases.values(rng, (2, channels, *map.input_size), dtype, layout)
        output = bilinear_cases.values(rng, (2, channels, *map.output_size), dtype, layout)
        bilinear_cases.check_forward(strictly, map, input, layout=layout)
        bilinear_cases.check_forward(strictly, map, input, skip=output, layout=layout)
        bilinear_cases.check_backward(strictly, map, output, layout=layout)


@pytest.mark.parametrize(
    "map", [Map((2, 2), (3, 5000)), Map((5, 2), (320, 20))], ids=["in pieces", "many rows"]
)
def test_bilinear_backward_in_parts(strictly: Emulation, map: Map) -> None:
    """More readers of an input column, or more rows in a chunk, than a block holds at once."""
    strictly.set_device(1)
    grad = bilinear_cases.values(random.Random(2), (1, 1, *map.output_size), torch.float32)
    bilinear_cases.check_backward(strictly, map, grad)


@pytest.mark.parametrize("run", [1, 30])
@pytest.mark.parametrize("num_classes", [2, 21, 300])
def test_confusion_of_labels(strictly: Emulation, num_classes: int, run: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    strictly.set_device(2)
    target, prediction = (
        confusion_matrix_cases.random_labels(generator, (1, 61, 67), num_classes, dtype, run)
        for dtype in (torch.int16, torch.int32)
    )
    confusion_matrix_cases.check(strictly, prediction, target, num_classes)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
def test_confusion_of_logits(strictly: Emulation, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(3)
    strictly.set_device(1)
    for dtype in (torch.float32, torch.float64, torch.float16):
        logits = torch.randn((2, 21, 9, 70), generator=generator).to(dtype)
        target = blocks(generator, (2, 9, 70), 21, 4).to(torch.uint8)
        logits = logits.contiguous(memory_format=layout)
        confusion_matrix_cases.check(strictly, logits, target, 21)


ARGMAX_MAPS = {
    "s2": upsampling((5, 20), 2, crop=(0, 1, 3, 0)),
    "s8": upsampling((4, 9), 8, crop=(4, 4, 4, 4)),
    "x32": scaling((2, 3), 32),
    "exact nodes": Map((3, 5), (33, 65), align_corners=True),
    "direct": Map((13, 17), (5, 6)),
}


def check_argmax(strictly: Emulation, map: Map, input: Tensor) -> None:
    """Labels, their probability, and counts."""
    batch, classes = input.shape[:2]
    dtype = accumulated(input.dtype)
    probability = torch.full((batch, *map.output_size), -1.0, dtype=dtype)
    labels = argmax_cases.argmax(strictly, map, input, probability=probability)
    argmax_cases.check_labels(map, input, labels)
    target = argmax_cases.targets(5, (batch, *map.output_size), classes, torch.uint8)
    argmax_cases.check_confusion(strictly, map, input, target)


@pytest.mark.parametrize("kind", ["random", "trained", "masked"])
@pytest.mark.parametrize("name", ARGMAX_MAPS)
def test_argmax(strictly: Emulation, name: str, kind: str) -> None:
    map = ARGMAX_MAPS[name]
    strictly.set_device(2)
    for classes, dtype, layout in (
        (21, torch.float32, CONTIGUOUS),
        (5, torch.float64, CONTIGUOUS),
        (70, torch.float16, CHANNELS_LAST),
    ):
        input = argmax_cases.scores(4, (2, classes, *map.input_size), dtype, kind)
        if kind == "masked":
            input[:, 1::3, ::2] = -INF
        check_argmax(strictly, map, input.contiguous(memory_format=layout))


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("stride", "size"), [(2, (3, 9)), (8, (3, 9)), (32, (1, 2))])
def test_argmax_in_stages_of_classes(
    strictly: Emulation, stride: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    map = scaling(size, stride)
    strictly.set_device(1, 20 << 10)
    for dtype, kind in (
        (torch.float32, "random"),
        (torch.float64, "random"),
        (torch.bfloat16, "trained"),
    ):
        assert argmax_cases.plan(strictly, map, (1, 250), dtype, False)["stages"] > 1
        input = argmax_cases.scores(6, (1, 250, *size), dtype, kind)
        check_argmax(strictly, map, input.contiguous(memory_format=layout))


def test_argmax_in_chunks_of_tiles(strictly: Emulation) -> None:
    map = Map((40, 70), (80, 140))
    strictly.set_device(1)
    assert argmax_cases.plan(strictly, map, (6, 3), torch.float32, False)["chunk_tiles"] > 1
    check_argmax(strictly, map, argmax_cases.scores(4, (6, 3, 40, 70)))


LOSS_MAPS = {
    "s2": upsampling((9, 20), 2, crop=(1, 0, 0, 3)),
    "s2, a tile without pixels": upsampling((12, 20), 2, crop=(18, 0, 0, 3)),
    "x2": scaling((9, 20), 2),
    "s4": upsampling((5, 20), 4),
    "s4, four tiles": upsampling((12, 17), 4, crop=(2, 1, 0, 0)),
    "x8": scaling((5, 9), 8),
    "s8": upsampling((5, 9), 8, crop=(3, 0, 4, 2)),
    "s16": upsampling((2, 4), 16),
    "x16, six tiles": scaling((4, 17), 16),
    "x32": scaling((1, 3), 32),
    "direct": upsampling((5, 6), 3, crop=(1, 0, 2, 0)),
    "direct, down": Map((13, 11), (5, 4)),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("extreme", [False, True], ids=["plain", "extreme"])
@pytest.mark.parametrize("name", LOSS_MAPS)
def test_cross_entropy(strictly: Emulation, name: str, extreme: bool, smoothing: float) -> None:
    """Includes scores for which some pixels halfway between two nodes are computed one by one."""
    generator = torch.Generator().manual_seed(7)
    map, classes = LOSS_MAPS[name], 8
    for layout, dtype, weight in (
        (CONTIGUOUS, torch.float32, None),
        (CHANNELS_LAST, torch.bfloat16, torch.rand(classes, generator=generator)),
    ):
        shape = (2, classes, *map.input_size)
        case = Case(map, weight, smoothing, gradient_layout=layout)
        input = cross_entropy_cases.scores(generator, shape, dtype)
        if extreme:
            input[0, :2, -1, 1:3] = torch.tensor([[120.0, 0.0], [0.0, 120.0]])
        input = input.contiguous(memory_format=layout)
        target = cross_entropy_cases.labels(generator, (2, *map.output_size), classes)
        cross_entropy_cases.check(strictly, case, input, target, least=1e-6)
        if name.startswith("direct"):
            cross_entropy_cases.check(strictly, case, input, target, pixels=True)


@pytest.mark.parametrize("name", ["s2", "s4, four tiles", "s8", "x32", "direct, down"])
def test_region_sums(strictly: Emulation, name: str) -> None:
    generator = torch.Generator().manual_seed(9)
    map = LOSS_MAPS[name]
    input = cross_entropy_cases.scores(generator, (2, 9, *map.input_size))
    input[0, :2, -1, 1:3] = torch.tensor([[120.0, 0.0], [0.0, 120.0]])
    target = cross_entropy_cases.labels(generator, (2, *map.output_size), 9)
    for case in (
        region_sums_cases.Case(map, losses=True, weight=torch.rand(9)),
        region_sums_cases.Case(map, squared=True, losses=True),
    ):
        region_sums_cases.check(strictly, case, input, target)
