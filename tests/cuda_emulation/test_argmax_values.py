"""Label maps from coarse scores, emulated: ties, scores that are not finite, probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from .argmax_cases import argmax, check, check_labels, logits_of, scores
from .maps import Map
from .operands import INF, NAN, SCORES

if TYPE_CHECKING:
    from .library import Emulation


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
    """-inf everywhere for some classes, at some nodes for others, and at one node for all."""
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


@pytest.mark.parametrize("step", [2, 3])
def test_where_all_classes_are_masked_the_first_wins(emulation: Emulation, step: int) -> None:
    """As among equal classes everywhere, even if a class is ahead at a corner of the cell."""
    input = torch.full((1, 3, 5, 9), -INF)
    input[0, 2, :, ::step] = 1.0
    for map in (
        Map((5, 9), (40, 72)),
        Map((5, 9), (33, 65), align_corners=True),
        Map((5, 9), (40, 72), 8, 15, (4, 3)),
        Map((5, 9), (13, 20)),
    ):
        check(emulation, map, input)


def test_winners_at_large_logits(emulation: Emulation) -> None:
    """Scores of +-1e4, with another winner at every node."""
    map = Map((6, 7), (48, 56), 8, 16, (4, 4))
    input = torch.full((1, 21, 6, 7), -1e4)
    winners = torch.randint(0, 21, (1, 1, 6, 7), generator=torch.Generator().manual_seed(13))
    check(emulation, map, input.scatter(1, winners, 1e4))


def test_exact_nodes_do_not_read_their_neighbors(emulation: Emulation) -> None:
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
