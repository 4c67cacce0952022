"""The fused losses where numbers are large, infinite, equal, absent or out of range."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference

from .heads import (
    CASES,
    LABEL_TYPES,
    PLAIN,
    Case,
    interpolated,
    loss_and_gradient,
    upsampled,
)
from .losses import MANY_PIXELS_OF_A_CELL, assert_matches, near

INF, NAN = float("inf"), float("nan")
# No pixel of these lies at a node or on its border's clamp: every weight is above zero.
FRACTIONAL = [upsampled((5, 6), 4, offset=(2, 2), fine=(15, 19)), upsampled((4, 4), 8)]


def losses(case: Case, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
    result: Tensor = case.head(ops, "cross_entropy", scores, target, reduction="none", **options)
    return result


@pytest.mark.parametrize("num_classes", [2, 7, 10, 21])
@pytest.mark.parametrize("case", MANY_PIXELS_OF_A_CELL, ids=str)
def test_equal_scores_of_many_pixels(case: Case, num_classes: int, device: torch.device) -> None:
    scores = torch.zeros(1, num_classes, *case.coarse, device=device)
    target = case.labels(1, num_classes).to(device)
    weight = torch.linspace(0.3, 1.7, num_classes, device=device)
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}):
        assert_matches(case, scores, target, reduction="sum", **options)
        assert_matches(case, scores + 3, torch.zeros_like(target), reduction="mean", **options)


@pytest.mark.parametrize(
    ("dtype", "nodes", "pixels", "nats"),
    [(torch.float32, 27, 20, (62.0, 69.0)), (torch.float64, 240, 20, (58.0, 61.0))],
)
def test_steep_scores_of_fewer_pixels_than_nodes(
    dtype: torch.dtype, nodes: int, pixels: int, nats: tuple[float, float], device: torch.device
) -> None:
    """From one pixel to the next scores rise by up to what no power of two of the type holds."""
    case = interpolated((nodes, 3), (pixels, 3))
    steps = torch.linspace(*nats, 120, dtype=dtype, device=device)
    scores = torch.zeros((120, 2, nodes, 3), dtype=dtype, device=device)
    scores[:, 1, 1::2] = -steps[:, None, None]
    scores[:, 0, 0::2] = -20.0
    assert_matches(case, scores, case.labels(120, 2).to(device), reduction="sum")


@pytest.mark.parametrize("fine", [(28, 41), (32, 35)])
def test_steep_twists_of_few_more_pixels_than_nodes(
    fine: tuple[int, int], device: torch.device
) -> None:
    """Two classes win by turns, like the fields of a chess board; some cells lack a column."""
    case = interpolated((27, 27), fine)
    row, column = torch.meshgrid(torch.arange(27), torch.arange(27), indexing="ij")
    black = (row + column) % 2 == 1
    scores = torch.full((1, 3, 27, 27), -20.0, device=device)
    scores[0, 0] = torch.where(black, -68.0, 0.0)
    scores[0, 1] = torch.where(black, 0.0, -68.0)
    assert_matches(case, scores, case.labels(1, 3).to(device), reduction="sum")


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("distance", [27.0, 30.0])
def test_small_probabilities_count_in_float64(
    case: Case, distance: float, device: torch.device
) -> None:
    scores = torch.zeros((1, 5, *case.coarse), dtype=torch.float64, device=device)
    scores[:, 1:] = -distance
    target = torch.zeros((1, *case.fine), dtype=torch.uint8, device=device)
    assert_matches(case, scores, target, reduction="none")


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 8, 16, 32])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_winners_by_ten_thousand(stride: int, noise: float, device: torch.device) -> None:
    """Another class wins at every node, by so much that no power of their distance is a float."""
    generator = torch.Generator().manual_seed(stride)
    for case in (
        upsampled((4, 5), stride),
        interpolated((4, 5), (4 * stride, 5 * stride)),
        interpolated((4, 5), (3 * stride + 1, 4 * stride + 1), align_corners=True),
    ):
        winner = torch.randint(0, 7, (2, 1, 4, 5), generator=generator)
        scores = torch.full((2, 7, 4, 5), -1e4).scatter_(1, winner, 1e4)
        scores += noise * torch.randn(scores.shape, generator=generator).round()
        assert_matches(case, scores.to(device), case.labels(2, 7).to(device))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e4, 3e38])
def test_all_equal(value: float, device: torch.device) -> None:
    """Inside, ln C everywhere, whatever the value; the zeros beyond a border are equal, too."""
    for case in (*PLAIN, upsampled((3, 3), 8)):
        scores = torch.full((2, 9, *case.coarse), value, device=device)
        target = case.labels(2, 9, void=None).to(device)
        loss = losses(case, scores, target)
        torch.testing.assert_close(loss, torch.full_like(loss, 9.0).log())


@pytest.mark.parametrize("case", [*PLAIN, upsampled((4, 4), 8)], ids=str)
def test_masked_classes(case: Case, device: torch.device) -> None:
    """-inf is a probability of zero: in all nodes or in some, and a loss of inf as the target."""
    scores, target = case.scores(2, 6).to(device), case.labels(2, 6).to(device)
    scores[:, 4] = -INF
    scores[0, 2, 1] = -INF
    # What plain PyTorch makes of it where 0 * -inf cannot arise.
    finite = scores.double().clamp(min=-1e30)
    for weight in (None, torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0, 0.0], device=device)):
        wide = weight if weight is None else weight.double()
        for reduction in ("none", "sum"):
            expected, expected_gradient = loss_and_gradient(
                reference, case, finite, target, reduction=reduction, weight=wide
            )
            expected = torch.where(expected > 1e9, INF, expected)
            loss, gradient = loss_and_gradient(
                ops, case, scores, target, reduction=reduction, weight=weight
            )
            torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=4e-6)
            near(gradient, expected_gradient, 1e-5)
    possible = torch.where((target == 4) | (target == 2), 255, target)
    loss, gradient = loss_and_gradient(ops, case, scores, possible)
    expected, expected_gradient = loss_and_gradient(reference, case, finite, possible)
    near(loss, expected, 1e-6)
    near(gradient, expected_gradient, 1e-5)
    assert not gradient[:, 4].any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_void(case: Case, device: torch.device) -> None:
    """0 for none and sum, NaN for mean as in torch; and no gradient, even from a mean of NaN."""
    target = torch.full((2, *case.fine), 255, dtype=torch.uint8, device=device)
    scores = case.scores(2, 3).to(device)
    scores[0, 1] = NAN
    for reduction in ("none", "sum", "mean"):
        loss, gradient = loss_and_gradient(ops, case, scores, target, reduction=reduction)
        assert not gradient.any()
        assert loss.isnan().all() if reduction == "mean" else not loss.any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_valid_pixel(case: Case, device: torch.device) -> None:
    """In each corner of the target and in its middle."""
    scores = case.scores(1, 5).to(device)
    height, width = case.fine
    for row, column in ((0, 0), (0, width - 1), (height - 1, 0), (height // 2, width // 2)):
        target = torch.full((1, height, width), 255, dtype=torch.int64, device=device)
        target[0, row, column] = 3
        assert_matches(case, scores, target)
        loss = losses(case, scores, target)
        assert int(loss.count_nonzero()) == 1
        assert loss[0, row, column] != 0


@pytest.mark.parametrize("num_classes", [1, 2, 3, 16, 17, 21, 64, 150, 255, 256, 257, 847, 1000])
def test_any_number_of_classes(num_classes: int, device: torch.device) -> None:
    void = 255 if num_classes < 255 else 5000
    for case in PLAIN:
        target = case.labels(1, num_classes, void=void).to(device)
        for dtype in (torch.float32, torch.bfloat16):
            scores = case.scores(1, num_classes, dtype).to(device)
            weight = (torch.arange(num_classes, device=device) % 4) / 2.0
            options = {"ignore_index": void, "weight": weight, "label_smoothing": 0.1}
            if num_classes > 1:
                assert_matches(case, scores, target, **options)
                assert_matches(case, scores, target, ignore_index=void)
            else:
                loss, gradient = loss_and_gradient(ops, case, scores, target)
                assert abs(float(loss)) < 1e-6
                assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("case", [*FRACTIONAL, *PLAIN], ids=str)
def test_nan_of_void_pixels_stays_there(case: Case, device: torch.device) -> None:
    """A node that only void pixels read: gradient zero, and nobody else notices it."""
    scores, target = case.scores(2, 4).to(device), case.labels(2, 4).to(device)
    read = case.weights().unflatten(0, case.coarse)[1, 2] > 0
    target[0, read.to(device)] = 255
    clean = loss_and_gradient(ops, case, scores, target)
    for value in (NAN, INF, -INF):
        for classes in ([2], [0, 1, 2, 3]):
            dirty = scores.clone()
            dirty[0, classes, 1, 2] = value
            for reduction in ("none", "sum", "mean"):
                clean = loss_and_gradient(ops, case, scores, target, reduction=reduction)
                found = loss_and_gradient(ops, case, dirty, target, reduction=reduction)
                assert not found[1][0, :, 1, 2].any()
                near(found[0], clean[0], 1e-6)
                near(found[1], clean[1], 1e-6)


@pytest.mark.parametrize("case", [*FRACTIONAL, *PLAIN], ids=str)
@pytest.mark.parametrize("value", [NAN, INF])
def test_nan_goes_where_it_does_in_torch(case: Case, value: float, device: torch.device) -> None:
    """To every valid pixel that reads it with a weight above zero, and to what those read."""
    scores, target = case.scores(2, 4).to(device), case.labels(2, 4).to(device)
    scores[0, 1, 1, 2] = value
    weights = case.weights().to(device)
    reads = weights.unflatten(0, case.coarse)[1, 2] > 1e-9
    bad = torch.zeros_like(target, dtype=torch.bool)
    bad[0] = reads & (target[0] != 255)
    assert torch.equal(losses(case, scores, target).isnan(), bad)
    touched = ((weights > 1e-9) & bad[0]).flatten(1).any(1).reshape(case.coarse)
    for reduction in ("none", "sum"):
        loss, gradient = loss_and_gradient(ops, case, scores, target, reduction=reduction)
        assert loss.isnan().any()
        assert torch.equal(gradient[0].isnan(), touched.expand(4, -1, -1))
        assert gradient[1].isfinite().all()
    if case in FRACTIONAL:
        _, plain = loss_and_gradient(reference, case, scores.double(), target)
        assert torch.equal(plain.isnan(), gradient.isnan())


def test_nodes_without_any_score(device: torch.device) -> None:
    """-inf for all classes of a node leaves nothing to normalize: NaN, as in torch."""
    case = FRACTIONAL[0]
    scores, target = case.scores(1, 3).to(device), case.labels(1, 3).to(device)
    scores[0, :, 2, 3] = -INF
    plain = case.head(reference, "cross_entropy", scores.double(), target, reduction="none")
    assert torch.equal(losses(case, scores, target).isnan(), plain.isnan())


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 2, 7, 255, 256, 2**40])
def test_any_ignore_index(case: Case, ignore_index: int, device: torch.device) -> None:
    """In or out of the range of classes and of the dtype of the labels."""
    scores = case.scores(2, 4).to(device)
    for dtype in LABEL_TYPES:
        info = torch.iinfo(dtype)
        target = case.labels(2, 4, void=None)
        if info.min <= ignore_index <= info.max:
            target[:, ::3] = ignore_index
        target = target.to(device, dtype)
        assert_matches(case, scores, target, ignore_index=ignore_index)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_weights_of_zero(case: Case, device: torch.device) -> None:
    """Where every pixel that counts weighs nothing, the mean is NaN and its gradient zero."""
    scores = case.scores(1, 3).to(device)
    target = torch.ones((1, *case.fine), dtype=torch.int64, device=device)
    weight = torch.tensor([1.0, 0.0, 1.0], device=device)
    loss, gradient = loss_and_gradient(ops, case, scores, target, weight=weight)
    assert loss.isnan()
    assert not gradient.any()
    none = losses(case, scores, target, weight=weight)
    assert not none.any()


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [(1, 0, 1), (0, 0, 0), (1, 0, -1), (2, 0, -3)], ids=str)
def test_the_mean_over_no_weight_is_the_quotient(
    weights: tuple[int, ...], smoothing: float, case: Case, device: torch.device
) -> None:
    """Of a sum that is not zero, as with label smoothing, where torch adds a NaN."""
    scores = case.scores(1, 3).to(device)
    target = torch.ones((1, *case.fine), dtype=torch.int64, device=device)
    options = {"weight": torch.tensor(weights, device=device).float(), "label_smoothing": smoothing}
    loss, gradient = loss_and_gradient(ops, case, scores, target, **options)
    total, _ = loss_and_gradient(ops, case, scores, target, reduction="sum", **options)
    assert torch.equal(loss.nan_to_num(nan=7), (total / 0).nan_to_num(nan=7))
    assert case.head(reference, "cross_entropy", scores, target, **options).isnan()
    assert not gradient.any()


def test_empty_batch(device: torch.device) -> None:
    for case in PLAIN:
        scores, target = case.scores(0, 3).to(device), case.labels(0, 3).to(device)
        for reduction in ("none", "sum", "mean"):
            loss, gradient = loss_and_gradient(ops, case, scores, target, reduction=reduction)
            assert gradient.shape == scores.shape
            assert loss.shape == (target.shape if reduction == "none" else ())
            assert bool(loss.isnan().all()) == (reduction != "sum") or reduction == "none"
            assert reduction != "sum" or float(loss) == 0.0


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("nothing", ["void", "weightless", "no images"])
def test_the_mean_over_nothing_passes_anomaly_detection(
    case: Case, nothing: str, device: torch.device
) -> None:
    """No NaN is made in the backward pass, not even one that is repaired afterwards."""
    images = 0 if nothing == "no images" else 2
    scores = case.scores(images, 3).to(device).requires_grad_()
    target = case.labels(images, 3, void=None).to(device)
    weight = None
    if nothing == "void":
        target.fill_(255)
    if nothing == "weightless":
        weight = torch.zeros(3, device=device)
    for smoothing in (0.0, 0.1):
        options = {"weight": weight, "label_smoothing": smoothing}
        with torch.autograd.detect_anomaly(check_nan=True):
            loss = case.head(ops, "cross_entropy", scores, target, **options)
            (gradient,) = torch.autograd.grad(loss, scores)
        plain = case.head(reference, "cross_entropy", scores.detach(), target, **options)
        assert torch.equal(loss.isnan(), plain.isnan())
        assert not gradient.any()
