"""The CUDA kernels of label maps and counts from coarse scores, emulated.

Labels equal, to the last one, those of logits formed by the same weighted sums in the same
precision (``logits_of``), and those of plain PyTorch in float64 wherever the two largest logits
differ by more than rounding. Scores lie in memory full of NaN and labels between guards; every call
draws another order of threads and blocks.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from .argmax_cases import (
    INF,
    LABELS,
    NAN,
    SCORES,
    Map,
    argmax,
    check,
    check_confusion,
    check_labels,
    confusion,
    first_largest,
    logits_of,
    plan,
    scores,
    targets,
)

if TYPE_CHECKING:
    from .conftest import Emulation


def upsampling(
    rng: random.Random, stride: int, odd: bool = False, most: tuple[int, int] = (6, 12)
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


# ---------------------------------------------------------------- every stride, type and layout


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("odd", [False, True], ids=["2s", "2s-1"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 8, 16, 32, 40])
def test_upsample(emulation: Emulation, stride: int, odd: bool, kind: str) -> None:
    rng = random.Random(f"{stride} {odd} {kind}")
    for channels, dtype in ((1, SCORES[0]), (21, SCORES[0]), (2, SCORES[1]), (21, SCORES[3])):
        map = upsampling(rng, stride, odd)
        input = scores(rng.randrange(1000), (2, channels, *map.input_size), dtype, kind)
        check(emulation, map, input, rng.choice(LABELS), shift=rng.choice([0, 0, 1, 5]))


INTERPOLATIONS = [
    ((4, 7), (8, 14)),  # whole strides
    ((9, 7), (72, 56)),
    ((3, 4), (96, 128)),
    ((5, 6), (13, 17)),
    ((7, 9), (55, 60)),
    ((4, 6), (121, 18)),  # 31 rows but 3 columns of a node
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
    map = Map(*sizes, align_corners=align_corners)
    for seed, (channels, dtype, kind) in enumerate(
        [
            (21, torch.float32, "random"),
            (5, torch.float64, "trained"),
            (33, torch.float16, "trained"),
        ]
    ):
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


def laid_out(values: Tensor, layout: str) -> Tensor:
    n, c, h, w = values.shape
    if layout == "channels last":
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "window":
        return values.new_zeros((n, c + 1, h + 2, w + 3))[:, :c, 1 : h + 1, 2 : w + 2].copy_(values)
    if layout == "channels last window":
        whole = values.new_zeros((n, h + 2, w + 3, c + 5))
        return whole[:, 1 : h + 1, 2 : w + 2, 3 : c + 3].permute(0, 3, 1, 2).copy_(values)
    if layout == "every other column":
        return values.repeat_interleave(2, 3)[..., ::2]
    if layout == "transposed":
        return values.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    return values.contiguous()


LAYOUTS = ["channels last", "window", "channels last window", "every other column", "transposed"]


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
    strip = plan(emulation, map, shape, dtype, False)["strip_tiles"]
    assert (strip > 1) == (multiprocessors == 1 and shape[0] == 6)
    check(emulation, map, scores(4, (*shape, *map.input_size), dtype, kind))


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_chunks_of_classes(emulation: Emulation, stride: int, kind: str) -> None:
    """Little shared memory: classes come 32 or 64 at a time."""
    map = Map((3, 9), (3 * stride, 9 * stride), stride, 2 * stride, (stride // 2, stride // 2))
    emulation.set_device(1, 48 << 10)
    for dtype in (torch.float32, torch.float64):
        planned = plan(emulation, map, (1, 600), dtype, False)
        assert planned["tiled"] == 1
        assert planned["chunks"] > 1
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
    probability = torch.empty(1, 40, 96)
    first = argmax(emulation, map, input, probability=probability)
    for _ in range(2):
        other = torch.empty_like(probability)
        assert torch.equal(argmax(emulation, map, input, probability=other), first)
        assert torch.equal(other, probability)


def test_trained_scores_touch_little(emulation: Emulation) -> None:
    """Few cells are mixed; of those, few classes are looked at; labels leave in vectors."""
    map = Map((16, 16), (128, 128), 8, 16, (4, 4))
    emulation.take_traffic()
    labels = argmax(emulation, map, scores(7, (1, 21, 16, 16), kind="trained"), torch.uint8)
    traffic = emulation.take_traffic()
    nodes = 21 * 16 * 16 * 4
    assert traffic["loaded"] < 3 * nodes
    assert labels.numel() <= traffic["stored"] < 2 * labels.numel()


# ---------------------------------------------------------------- ties and special values


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(32, 72), (16, 36), (7, 9), (3, 3)], ids=str)
def test_ties(emulation: Emulation, size: tuple[int, int], align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(8)
    map = Map((4, 9), size, align_corners=align_corners)
    for levels in (1, 2, 3):
        input = torch.randint(0, levels, (2, 12, 4, 9), generator=generator).float()
        check(emulation, map, input)
    all_equal = torch.full((1, 40, 4, 9), -3.25)
    assert (argmax(emulation, map, all_equal) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_near_ties(emulation: Emulation, dtype: torch.dtype) -> None:
    """Scores a few roundings apart, which sums may make equal: a lower class then wins."""
    generator = torch.Generator().manual_seed(9)
    for map in (Map((4, 9), (32, 72)), Map((4, 9), (13, 37)), Map((4, 9), (12, 27), 3, 6, (1, 1))):
        for scale in (1.0, 1e4, 1e-38):
            steps = torch.randint(-3, 4, (2, 9, 4, 9), generator=generator).to(dtype)
            input = scale * (1.7 + torch.finfo(dtype).eps * steps)
            check(emulation, map, input)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_special_values(emulation: Emulation, dtype: torch.dtype, align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(10)
    for map in (
        Map((5, 9), (40, 72), align_corners=align_corners),
        Map((5, 9), (33, 65), align_corners=align_corners),
        Map((5, 9), (4, 6), align_corners=align_corners),
        Map((5, 9), (40, 72), 8, 15 + align_corners, (4, 3)),
    ):
        for share in (0.003, 0.2):
            input = scores(11, (1, 19, 5, 9), dtype, "trained")
            for value in (NAN, INF, -INF, 1e4, -1e4):
                input[torch.rand(input.shape, generator=generator) < share] = value
            check(emulation, map, input)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e4, 3e38])
def test_masked_classes(emulation: Emulation, scale: float, align_corners: bool) -> None:
    """-inf everywhere for some classes, at some nodes for others, at one node for all."""
    input = scale * torch.tanh(scores(12, (1, 23, 5, 9)))
    input[:, [0, 3, 4, 22]] = -INF
    input[:, 7, 2:, 3:] = -INF
    input[:, 9:, :, 6:] = -INF
    input[:, :, 1, 1] = -INF
    for map in (
        Map((5, 9), (40, 72), align_corners=align_corners),
        Map((5, 9), (33, 65), align_corners=align_corners),
        Map((5, 9), (40, 72), 8, 15 + align_corners, (4, 3)),
    ):
        check(emulation, map, input)
        check(emulation, map, torch.full((1, 3, 5, 9), -INF))
        check(emulation, map, torch.full((1, 3, 5, 9), NAN))


def test_winners_at_large_logits(emulation: Emulation) -> None:
    """+-1e4 with another winner at every node."""
    map = Map((6, 7), (48, 56), 8, 16, (4, 4))
    input = torch.full((1, 21, 6, 7), -1e4)
    winners = torch.randint(0, 21, (1, 1, 6, 7), generator=torch.Generator().manual_seed(13))
    check(emulation, map, input.scatter(1, winners, 1e4))


def test_exact_nodes_do_not_read_their_neighbours(emulation: Emulation) -> None:
    """Every fourth output lies on a node: an infinity beside it does not reach it."""
    map = Map((3, 5), (9, 17), align_corners=True)
    input = torch.zeros(1, 3, 3, 5)
    input[:, 1, 0, 0] = 1
    input[:, 2, 1, :] = -INF
    input[:, 0, :, 3] = INF
    check(emulation, map, input)


# ---------------------------------------------------------------- probability


@pytest.mark.parametrize("dtype", SCORES, ids=str)
@pytest.mark.parametrize("channels", [1, 21, 150])
def test_probability(emulation: Emulation, dtype: torch.dtype, channels: int) -> None:
    for map in (Map((4, 7), (32, 56)), Map((4, 7), (3, 9)), Map((4, 7), (37, 63), 8, 16)):
        input = 3 * scores(14, (2, channels, 4, 7), dtype)
        accumulate = torch.float64 if dtype == torch.float64 else torch.float32
        probability = torch.full((2, *map.output_size), NAN, dtype=accumulate)
        check_labels(map, input, argmax(emulation, map, input, probability=probability))
        expected = map.reference(input.double()).softmax(1).amax(1)
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5
        torch.testing.assert_close(probability.double(), expected, rtol=tolerance, atol=0)


def test_probability_is_nan_where_that_of_softmax_is(emulation: Emulation) -> None:
    map = Map((5, 9), (40, 72))
    input = scores(15, (1, 9, 5, 9))
    input[0, 2, 1, 1] = NAN
    input[0, 3, 3, 3] = INF
    input[0, :, 0, 7] = -INF
    input[0, 4] = -INF
    probability = torch.full((1, 40, 72), -1.0)
    argmax(emulation, map, input, probability=probability)
    expected = logits_of(map, input).double().softmax(1).amax(1)
    assert 0 < int(expected.isnan().sum()) < 1000
    torch.testing.assert_close(probability.double(), expected, rtol=2e-5, atol=0, equal_nan=True)


# ---------------------------------------------------------------- confusion counts


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("kind", ["random", "trained"])
def test_counts(emulation: Emulation, dtype: torch.dtype, kind: str) -> None:
    for seed, (channels, scale, map) in enumerate(
        [
            (21, torch.float32, Map((4, 40), (31, 313), 8, 16, (5, 3))),
            (5, torch.float64, Map((4, 9), (32, 72))),
            (19, torch.float16, Map((5, 20), (20, 80))),
            (9, torch.float32, Map((20, 30), (7, 11))),
            (7, torch.bfloat16, Map((3, 3), (91, 93))),
        ]
    ):
        emulation.set_device(1 + seed % 2)
        input = scores(seed, (2, channels, *map.input_size), scale, kind)
        check_confusion(
            emulation, map, input, targets(seed, (2, *map.output_size), channels, dtype)
        )


@pytest.mark.parametrize("channels", [1, 2, 150, 230])
@pytest.mark.parametrize("shared_bytes", [232448, 100 << 10])
def test_counts_of_many_classes(emulation: Emulation, channels: int, shared_bytes: int) -> None:
    emulation.set_device(1, shared_bytes)
    for map in (Map((5, 10), (160, 320)), Map((4, 9), (16, 36))):
        input = scores(channels, (1, channels, *map.input_size), torch.float32, "trained")
        target = targets(channels, (1, *map.output_size), channels, torch.int16)
        check_confusion(emulation, map, input, target)


@pytest.mark.parametrize("ignore_index", [255, 0, -1, 3, 2**40])
def test_ignored_and_invalid_labels(emulation: Emulation, ignore_index: int) -> None:
    generator = torch.Generator().manual_seed(16)
    for dtype, map in itertools.product(LABELS, (Map((4, 9), (32, 70)), Map((40, 9), (32, 70)))):
        limits = torch.iinfo(dtype)
        values = [0, 1, 2, 3, 4, 5, 255, -1, -2, limits.min, limits.max, 32768, 65535, 2**32 + 1]
        kept = torch.tensor([v for v in values if limits.min <= v <= limits.max])
        target = kept[torch.randint(0, len(kept), (1, 32, 70), generator=generator)].to(dtype)
        check_confusion(emulation, map, scores(17, (1, 5, *map.input_size)), target, ignore_index)


@pytest.mark.parametrize("view", ["window", "transposed", "every other", "expanded"])
def test_targets_of_any_strides(emulation: Emulation, view: str) -> None:
    map = Map((4, 9), (31, 70))
    for size in ((4, 9), (40, 9)):
        map = Map(size, (31, 70))
        target = targets(18, (3, 31, 70), 6, torch.uint8)
        if view == "window":
            target = target.new_full((3, 40, 81), 99)[:, 3:34, 5:75].copy_(target)
        elif view == "transposed":
            target = target.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        elif view == "every other":
            target = target.repeat_interleave(2, 2)[:, :, ::2]
        else:
            target = target[:1, :, :1].expand(3, 31, 70)
        check_confusion(emulation, map, scores(19, (3, 6, *size), kind="trained"), target)


def test_nothing_to_do(emulation: Emulation) -> None:
    map = Map((4, 9), (32, 72))
    assert argmax(emulation, map, torch.empty(0, 5, 4, 9)).shape == (0, 32, 72)
    matrix, invalid = confusion(
        emulation, map, torch.empty(0, 5, 4, 9), torch.empty(0, 32, 72, dtype=torch.uint8)
    )
    assert int(matrix.abs().sum()) == 0
    assert invalid == 0


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("case", ["argmax_float", "argmax_half", "argmax_confusion"])
def test_kernels_stay_in_bounds(sanitized_program: Path, case: str) -> None:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    command = [sanitized_program, case]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
