"""The maps of the sigmoid losses, reduction="pixels", against their formulas at full size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fcn_ext
from fcn_ext import losses, reference_losses

from .heads import PLAIN
from .losses import near
from .test_pixel_losses import loss_and_gradient
from .test_sigmoid_losses import assert_matches
from .test_sigmoid_sums import masks


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal_loss"])
def test_maps_of_losses(name: str) -> None:
    """As large as the target, whatever its type and however many sizes it has."""
    function, plain = getattr(losses, name), getattr(reference_losses, name)
    case = PLAIN[0]
    scores, target = case.scores(2, 3, torch.float64), masks(case)
    for given in (target.long(), (target == 1), target.mT.contiguous().mT):
        found = function(scores, given, case.geometry, reduction="pixels")
        assert found.shape == target.shape
        near(found, plain(scores, given, case.geometry, reduction="pixels"), 1e-12)
        assert not found[given == 255].any()
    one = function(scores[:, :1], target[:, 0], case.geometry, reduction="pixels")
    assert one.shape == target[:, 0].shape
    near(one, function(scores, target, case.geometry, reduction="pixels")[:, 0], 1e-12)
    formula = plain(scores[:, :1], target[:, 0], case.geometry, reduction="pixels")
    assert formula.shape == one.shape
    near(one, formula, 1e-12)


def test_maps_of_probabilities() -> None:
    """By the losses of one and zero, without and with a weight of ones."""
    case, weight = PLAIN[1], torch.tensor([0.5, 2.0, 3.0])
    soft = torch.rand(2, 3, *case.fine, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"pos_weight": weight}, {"pos_weight": torch.tensor(4.0)}):
        assert_matches(
            "sigmoid_cross_entropy", case, case.scores(2, 3), soft, **options, reduction="pixels"
        )
    soft[1, 2, 0, 3] = 1.5
    message = r"target must be in \[0, 1\], got 1.5 at batch index 1, mask 2, row 0, column 3"
    for reduction in ("pixels", "sum"):
        for target in (soft, torch.nn.Parameter(soft, requires_grad=False)):
            with pytest.raises(ValueError, match=message):
                losses.sigmoid_cross_entropy(
                    case.scores(2, 3), target, case.geometry, reduction=reduction
                )


@pytest.mark.parametrize("weight", [None, 4.0, 0.0])
def test_maps_have_a_gradient_of_probabilities(weight: float | None) -> None:
    """Of those that are zero and one, too."""
    case = PLAIN[1]
    scores = case.scores(2, 3, torch.float64)
    soft = torch.rand(2, 3, *case.fine, generator=torch.Generator().manual_seed(0)).double()
    soft[0, 0], soft[0, 1] = 0, 1
    options = {} if weight is None else {"pos_weight": torch.tensor(weight)}
    slopes = []
    for module in (losses, reference_losses):
        leaf = soft.clone().requires_grad_()
        loss = module.sigmoid_cross_entropy(
            scores, leaf, case.geometry, **options, reduction="pixels"
        )
        slopes.append(torch.autograd.grad(loss.sum(), leaf)[0])
    near(slopes[0], slopes[1], 1e-12)
    leaf = soft.clone().requires_grad_()
    infinite = losses.sigmoid_cross_entropy(
        torch.full_like(scores, -torch.inf), leaf, case.geometry, **options, reduction="pixels"
    )
    assert torch.autograd.grad(infinite[0, 0].sum(), leaf)[0][0, 0].isfinite().all()


@pytest.mark.parametrize("soft", [False, True])
def test_maps_under_transforms_and_compile(soft: bool) -> None:
    """Which have no values to look at."""
    case = PLAIN[1]
    scores = case.scores(2, 3)
    target = masks(case, dtype=torch.float32 if soft else torch.uint8)

    def pixels(scores: Tensor, target: Tensor) -> Tensor:
        return losses.sigmoid_cross_entropy(scores, target, case.geometry, reduction="pixels")

    expected, gradient = loss_and_gradient(pixels, scores, target)
    compiled = torch.compile(pixels, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(
        loss_and_gradient(compiled, scores, target), (expected, gradient), strict=True
    ):
        near(ours, theirs, 1e-6)
    each = torch.vmap(lambda s, t: pixels(s[None], t[None])[0])
    assert torch.equal(each(scores, target), expected)
    near(torch.func.grad(lambda s: pixels(s, target).sum())(scores), gradient, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_of_infinite_scores(dtype: torch.dtype) -> None:
    """A loss that has no weight adds nothing, even an infinite one: as in the sums."""
    target = torch.tensor([0.0, 0.25, 1.0, 0.0, 1.0], dtype=dtype).view(1, 5, 1, 1)
    target = target.repeat(1, 1, 4, 4)
    scores = PLAIN[0].scores(1, 5, dtype)[:, :, :2, :2].clone()
    scores[:, :3] = -torch.inf
    nothing = torch.tensor([1.0, 1, 0, 1, 1])  # of the infinite losses of one mask
    for options in ({}, {"pos_weight": torch.tensor(3.0)}, {"pos_weight": nothing}):
        found, gradient = loss_and_gradient(
            losses.sigmoid_cross_entropy, scores, target, **options, reduction="pixels"
        )
        infinite = [False, True, options.get("pos_weight") is not nothing, False, False]
        assert found[0, :, 0, 0].isinf().tolist() == infinite
        assert not found[0, 0].any()
        assert gradient.isfinite().all()
        expected = reference_losses.sigmoid_cross_entropy(
            scores.double().clamp(min=-100), target, **options, reduction="pixels"
        )
        near(found[:, ::3], expected[:, ::3], 1e-6)
        near(found[:, 4], expected[:, 4], 1e-6)
        # Their sums are those of the sums, which have the limits of each term.
        total = losses.sigmoid_cross_entropy(scores, target, **options, reduction="none")
        torch.testing.assert_close(found.sum((2, 3)), total)
    labels = target.round().to(torch.uint8)
    calls: list[tuple[Any, dict[str, Any]]] = [
        (losses.sigmoid_cross_entropy, {}),
        (losses.sigmoid_cross_entropy, {"pos_weight": nothing}),
        (losses.sigmoid_focal_loss, {}),
        (losses.sigmoid_focal_loss, {"alpha": 0.0}),
    ]
    for function, options in calls:
        found = function(scores, labels, **options, reduction="pixels")
        total = function(scores, labels, **options, reduction="none")
        torch.testing.assert_close(found.sum((2, 3)), total)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_maps_of_probabilities_do_not_wait_for_the_device() -> None:
    """Neither these nor those of logits that are deferred."""
    scores = torch.randn(2, 3, 6, 7, device="cuda", requires_grad=True)
    target = torch.rand(2, 3, 24, 28, device="cuda")
    weight = torch.rand(28, device="cuda")

    def both() -> None:
        losses.sigmoid_cross_entropy(scores, target, reduction="pixels").sum().backward()
        with fcn_ext.fused_upsampling():
            logits = F.interpolate(scores, (24, 28), mode="bilinear")
            loss = F.binary_cross_entropy_with_logits(logits, target, weight)
        loss.backward()

    both()  # what is loaded and set up at the first call may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        both()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("weighed", [False, True])
def test_slopes_by_targets_in_every_mode(weighed: bool) -> None:
    """Under vmap a target does not tell that grad, around it, differentiates it; nor does it in
    forward mode. Some shares are zero, by which there is a slope, too."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.rand(3, 2, 9, 11, generator=generator, dtype=torch.float64)
    target[:, :, 2:4] = 0.0
    target[:, :, 4:6] = 1.0
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64) if weighed else None

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        pixels = losses.sigmoid_cross_entropy(scores, target, pos_weight=weight, reduction="pixels")
        return pixels.square().sum()

    wanted = target.clone().requires_grad_()
    (expected,) = torch.autograd.grad(
        reference_losses.sigmoid_cross_entropy(
            scores, wanted, pos_weight=weight, reduction="pixels"
        )
        .square()
        .sum(),
        wanted,
    )
    vmapped = torch.func.vmap(lambda s, t: loss(s[None], t[None]))
    gradients = [
        torch.autograd.grad(loss(scores, wanted), wanted)[0],
        torch.func.grad(lambda t: loss(scores, t))(target),
        torch.func.grad(lambda t: vmapped(scores, t).sum())(target),
        torch.func.vmap(torch.func.grad(lambda t, s: loss(s[None], t[None])))(target, scores),
    ]
    for gradient in gradients:
        torch.testing.assert_close(gradient, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(target, torch.ones_like(target))
        _, tangent = torch.autograd.forward_ad.unpack_dual(loss(scores, dual))
    torch.testing.assert_close(tangent, expected.sum())
