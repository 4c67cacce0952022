"""Losses of one class, several labels and masks, against their formulas at full size."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses, nn, reference_losses

from .heads import CASES, PLAIN, SCORE_TYPES, Case
from .losses import GRADIENT, near
from .test_pixel_losses import loss_and_gradient
from .test_sigmoid_sums import masks

REDUCTIONS = ["none", "sum", "mean", "mean_masks", "pixels"]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sigmoid_cross_entropy": [{}, {"pos_weight": torch.tensor([0.5, 2.0, 3.0])}],
    "sigmoid_focal_loss": [{}, {"gamma": 0.5, "alpha": None}, {"alpha": 0.6, "gamma": 3.0}],
    "sigmoid_dice_loss": [{}, {"smooth": 0.1}],
}


def reductions(name: str) -> list[str]:
    return REDUCTIONS[:3] if name == "sigmoid_dice_loss" else REDUCTIONS


def assert_matches(name: str, case: Case, scores: Tensor, target: Tensor, **options: Any) -> None:
    """Against float64 plain PyTorch of the same, rounded, scores."""
    plain, ours = (getattr(module, name) for module in (reference_losses, losses))
    expected, expected_gradient = loss_and_gradient(
        plain, scores.double(), target, case.geometry, **options
    )
    loss, gradient = loss_and_gradient(ours, scores, target, case.geometry, **options)
    wide = scores.dtype == torch.float64
    assert loss.dtype == (torch.float64 if wide else torch.float32)
    near(loss, expected, 1e-12 if wide else 1e-6)
    least = 0.1 * float(case.weights().sum((1, 2)).max()) if loss.dim() else 1e-3
    near(gradient, expected_gradient, GRADIENT[scores.dtype], least)


@pytest.mark.parametrize("case", CASES[1::3], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_matches_reference(name: str, case: Case, device: torch.device) -> None:
    target = masks(case).to(device)
    for given in OPTIONS[name]:
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()}
        for place, reduction in enumerate(reductions(name)):
            scores = case.scores(2, 3, SCORE_TYPES[place % len(SCORE_TYPES)]).to(device)
            assert_matches(name, case, scores, target, **options, reduction=reduction)


@pytest.mark.parametrize("name", OPTIONS)
def test_one_class(name: str) -> None:
    """Its label map lies where other losses' do, void included."""
    for case in PLAIN:
        labels = masks(case, 2, 1).squeeze(1)
        for dtype in (torch.uint8, torch.int64):
            assert_matches(name, case, case.scores(2, 1), labels.to(dtype))
        if name != "sigmoid_focal_loss":
            assert_matches(name, case, case.scores(2, 1), (labels == 1).float() * 0.7)


@pytest.mark.parametrize("name", OPTIONS)
def test_void_and_nothing(name: str) -> None:
    case, function = PLAIN[1], getattr(losses, name)
    void = torch.full((1, 2, *case.fine), 255, dtype=torch.uint8)
    for reduction in reductions(name):
        loss, gradient = loss_and_gradient(
            function, case.scores(1, 2) * torch.nan, void, case.geometry, reduction=reduction
        )
        assert not loss.any()
        assert not gradient.any()
        empty = torch.zeros((0, 2, 3, 3), requires_grad=True)
        nothing = torch.zeros((0, 2, 9, 9), dtype=torch.bool)
        assert function(empty, nothing, reduction=reduction).sum().item() == 0


@pytest.mark.parametrize("void", [0, 1, 255, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bool, torch.int64])
@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_dice_loss"])
def test_what_is_void(name: str, dtype: torch.dtype, void: int) -> None:
    """A label may be, no probability is."""
    case = CASES[1]
    target = (masks(case) == 1).to(dtype)
    for reduction in reductions(name):
        scores = case.scores(2, 3, torch.float64)
        assert_matches(name, case, scores, target, ignore_index=void, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_dice_that_is_not_smoothed(reduction: str) -> None:
    """Of nothing it has no loss, and a gradient of zero; other masks have theirs."""
    case = PLAIN[1]
    target = masks(case)
    target[0, 1] = 255
    scores = case.scores(2, 3).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        loss = losses.sigmoid_dice_loss(
            scores, target, case.geometry, smooth=0, reduction=reduction
        )
        (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert not gradient[0, 1].any()
    assert gradient[0, 0].any()
    plain = reference_losses.sigmoid_dice_loss(
        scores.detach().double(), target, case.geometry, smooth=0, reduction=reduction
    )
    near(loss.detach(), plain, 1e-6)


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal_loss"])
def test_labels_out_of_range_are_named_alike(name: str) -> None:
    """By the mask that has one, whatever is made of its pixels."""
    case = PLAIN[1]
    for dtype in (torch.uint8, torch.int64):
        target = masks(case).to(dtype)
        target[1, 2, 3, 4] = 7
        for reduction in ("pixels", "sum"):
            with pytest.raises(
                ValueError,
                match="target must be 0, 1 or ignore_index = 255, got 7 at batch index 1, mask 2, "
                "row 3, column 4",
            ):
                getattr(losses, name)(case.scores(2, 3), target, case.geometry, reduction=reduction)


@pytest.mark.parametrize("name", OPTIONS)
def test_of_examples_without_a_word(name: str) -> None:
    """Nor does torch warn that it takes one example after the other."""
    scores, target = torch.randn(2, 1, 3, 4, 5), torch.rand(2, 1, 3, 9, 11) > 0.5
    for reduction in reductions(name):
        function = functools.partial(getattr(losses, name), reduction=reduction)
        found = torch.vmap(function)(scores, target)
        near(found, torch.stack(list(map(function, scores, target))), 1e-6)


def test_replaces_the_two_usual_lines() -> None:
    scores, target = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 16, 20)
    logits = F.interpolate(scores, (16, 20), mode="bilinear")
    for options in ({}, {"pos_weight": torch.tensor(3.0)}):
        expected = F.binary_cross_entropy_with_logits(logits, target, **options)
        torch.testing.assert_close(
            losses.sigmoid_cross_entropy(scores, target, **options), expected
        )


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.SigmoidCrossEntropyLoss, losses.sigmoid_cross_entropy),
        (nn.SigmoidFocalLoss, losses.sigmoid_focal_loss),
        (nn.SigmoidDiceLoss, losses.sigmoid_dice_loss),
    ],
)
def test_modules_are_their_functions(module: Any, function: Any) -> None:
    case = PLAIN[0]
    scores, target = case.scores(2, 3), masks(case)
    for options in OPTIONS[function.__name__]:
        made = module(case.geometry, **options)
        assert torch.equal(made(scores, target), function(scores, target, case.geometry, **options))
        assert set(made.state_dict()) == {k for k, v in options.items() if isinstance(v, Tensor)}
        assert repr(case.geometry) in repr(made)


SCORES, TARGET = torch.zeros(1, 3, 4, 4), torch.zeros((1, 3, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.sigmoid_cross_entropy(SCORES, TARGET, pos_weight=torch.ones(2)),
            ValueError,
            r"pos_weight must have shape \(Q,\) = \(3,\) or \(\), got \(2,\)",
        ),
        (
            lambda: losses.sigmoid_cross_entropy(SCORES, TARGET, reduction="all"),
            ValueError,
            "reduction must be 'none', 'sum', 'mean', 'mean_masks' or 'pixels', got 'all'",
        ),
        (
            lambda: losses.sigmoid_cross_entropy(SCORES, TARGET[0]),
            ValueError,
            r"target must have shape \(N, Q, H, W\) unless input has one channel, got \(3, 8, 8\)",
        ),
        (lambda: losses.sigmoid_cross_entropy(None, TARGET), TypeError, "input must be"),
        (lambda: losses.sigmoid_cross_entropy(SCORES, [1]), TypeError, "target must be"),
        (
            lambda: losses.sigmoid_focal_loss(SCORES, TARGET, alpha=2),
            ValueError,
            r"alpha must be in \[0, 1\] or None, got 2",
        ),
        (
            lambda: losses.sigmoid_focal_loss(SCORES, TARGET, gamma=-1),
            ValueError,
            "gamma must be >= 0, got -1",
        ),
        (
            lambda: losses.sigmoid_focal_loss(SCORES, TARGET.float()),
            ValueError,
            "target must be bool or integers with gamma, got float32",
        ),
        (
            lambda: losses.sigmoid_dice_loss(SCORES, TARGET, smooth=-1),
            ValueError,
            "smooth must be >= 0, got -1",
        ),
        (
            lambda: losses.sigmoid_dice_loss(SCORES, TARGET, reduction="mean_masks"),
            ValueError,
            "reduction must be 'none', 'sum' or 'mean', got 'mean_masks'",
        ),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
