"""Losses with a sigmoid straight from coarse scores: values, gradients, second derivatives."""

from __future__ import annotations

import itertools
import warnings
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fcn_ext
from fcn_ext import losses, ops

from . import common
from .common import SIZE, Loss, agrees, up, with_gradient


def masks(x: Tensor, soft: bool = False) -> Tensor:
    """A target as the logits, 0 and 1 or anything between."""
    generator = torch.Generator().manual_seed(4)
    drawn = torch.rand(x.shape, generator=generator, dtype=torch.float64)
    return (drawn if soft else drawn.round()).to(x.dtype)


def number(x: Tensor, value: float) -> Tensor:
    return torch.tensor(value, dtype=x.dtype)


def per_class(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 3, 5, dtype=x.dtype).view(5, 1, 1)


def per_pixel(x: Tensor) -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(5)).to(x.dtype)


@pytest.mark.parametrize(
    ("reduction", "weight", "pos_weight", "soft"),
    list(
        itertools.product(
            ["mean", "sum", "none"],
            [None, per_class, per_pixel],
            [None, per_class, per_pixel],
            [False, True],
        )
    ),
)
def test_options(
    reduction: str, weight: Any, pos_weight: Any, soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(logits: Tensor) -> Tensor:
        weights = [None if w is None else w(logits) for w in (weight, pos_weight)]
        module = nn.BCEWithLogitsLoss(weights[0], reduction=reduction, pos_weight=weights[1])
        value: Tensor = module(logits, masks(logits, soft))
        return value

    # Of each pixel's loss by a soft target torch needs no more than we would.
    by_pixels = reduction == "none" or per_pixel in (weight, pos_weight)
    agrees(with_gradient(loss), monkeypatch, computed=int(soft and by_pixels))


bce = F.binary_cross_entropy_with_logits

LOSSES: dict[str, Loss] = {
    "pixels": lambda x: bce(x.view(-1), masks(x).view(-1)),
    "rows of classes": lambda x: bce(
        x.permute(0, 2, 3, 1).reshape(-1, 5), masks(x).permute(0, 2, 3, 1).reshape(-1, 5)
    ),
    "a weight of the last dimension": lambda x: bce(
        x.movedim(1, 3), masks(x).movedim(1, 3), pos_weight=torch.arange(5).to(x) + 1
    ),
    "one number": lambda x: bce(x, masks(x), number(x, 2)[None], pos_weight=number(x, 3)),
    "image by image": lambda x: torch.stack([bce(x[i], masks(x)[i]) for i in range(2)]),
    "the last image": lambda x: bce(x[-1:], masks(x)[-1:], reduction="none"),
    "expanded target": lambda x: bce(x, number(x, 1).expand(x.shape), reduction="none"),
    "turned target": lambda x: bce(x.mT, masks(x).mT, reduction="none"),
    "void by weight": lambda x: bce(x, masks(x), (per_pixel(x) > 0.3).to(x.dtype)),
    "two of it": lambda x: bce(x, masks(x)) + 0.4 * bce(x, 1 - masks(x), reduction="sum"),
    "focal, by its pixels": lambda x: (
        bce(x, masks(x), reduction="none").neg().expm1().square()
        * bce(x, masks(x), reduction="none")
    ).mean(),
    "summed, by its former name": lambda x: bce(x, masks(x), size_average=False),
    "pixels, by their former name": lambda x: bce(x, masks(x), per_pixel(x), reduce=False),
    "a mean that was meant to be pixels": lambda x: bce(x, masks(x), reduce="none"),
    "ours": lambda x: losses.sigmoid_cross_entropy(x, masks(x).byte(), pos_weight=number(x, 2)),
    "our focal": lambda x: losses.sigmoid_focal_loss(x, masks(x).bool(), reduction="mean_masks"),
    "our Dice, with void": lambda x: losses.sigmoid_dice_loss(
        x, masks(x).byte().masked_fill(per_pixel(x) > 0.8, 255), reduction="none"
    ),
    "our pixels": lambda x: losses.sigmoid_cross_entropy(
        x, masks(x).byte(), pos_weight=number(x, 2), reduction="pixels"
    ),
    "our pixels of probabilities": lambda x: losses.sigmoid_cross_entropy(
        x, masks(x, True), reduction="pixels"
    ),
    "our focal pixels, with void": lambda x: losses.sigmoid_focal_loss(
        x, masks(x).long().masked_fill(per_pixel(x) > 0.8, -1), ignore_index=-1, reduction="pixels"
    ),
    "our hardest pixels of an image": lambda x: (
        losses.sigmoid_cross_entropy(x[1:], masks(x)[1:].bool(), reduction="pixels").view(-1)
    ).topk(50)[0],
    "our operator of half": lambda x: ops.sigmoid_sums(x[1:], masks(x)[1:], regions=True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_forms_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0)


@pytest.mark.parametrize("target", [masks, lambda x: masks(x).long()])
def test_former_names_warn_once(target: Any) -> None:
    """As in torch, whether torch computes the loss or not."""
    said = []
    for context in (nullcontext(), fcn_ext.fused_upsampling()):
        with context, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            logits = up(common.scores())
            with suppress(RuntimeError):
                bce(logits, target(logits), size_average=True)
        said.append([str(warning.message) for warning in caught])
    assert said[0] == said[1]
    assert len(said[0]) == 1


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("images", [1, 3])
def test_one_class(reduction: str, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers' SegFormer has it, whose labels of 255 are multiplied away."""

    def program(_: Tensor) -> Any:
        coarse = common.scores(shape=(images, 1, 6, 7))
        logits = up(coarse)
        target = masks(logits)[:, 0]
        target[:, 2:5] = 255 if reduction == "none" else 0.5
        value = bce(logits.squeeze(1), target, reduction=reduction)
        value = (value * (target != 255)).mean()
        value.backward()
        return value, coarse.grad

    agrees(program, monkeypatch, computed=int(reduction == "none"))


COMPUTED: dict[str, Loss] = {
    "some channels": lambda x: bce(x[:, :1], masks(x)[:, :1]),
    "beside the logits": lambda x: bce(x, masks(x)) + x.mean(),
    "of sigmoids": lambda x: bce(x.sigmoid(), masks(x)),
    "of probabilities": lambda x: F.binary_cross_entropy(x.sigmoid(), masks(x)),
    "a target with gradient": lambda x: bce(x, x.sigmoid()),
    "weights with gradient": lambda x: bce(x, masks(x), per_class(x).requires_grad_()),
    "integers": lambda x: bce(x, masks(x).long()),
    "another dtype": lambda x: bce(x, masks(x).float()),
    "weights of another dtype": lambda x: bce(x, masks(x), pos_weight=per_class(x).float()),
    "another size": lambda x: bce(x, masks(x)[..., 1:]),
    "labels": lambda x: bce(x, masks(x)[:, 0]),
    "weights that do not fit": lambda x: bce(x, masks(x), pos_weight=x.new_ones(5)),
    "more dimensions": lambda x: bce(x, masks(x), x.new_ones(1, 1, 1, 1, 1)),
    "an unknown reduction": lambda x: bce(x, masks(x), reduction="median"),
    "former names that do not fit": lambda x: bce(x, masks(x)[:1], size_average=False),
    "not a number": lambda x: bce(x, masks(x) * torch.nan),
    "beyond one": lambda x: bce(x, 255 * masks(x), reduction="none") * masks(x, True),
    "beyond one, summed": lambda x: bce(x, 255 * masks(x)),
    "infinite weights": lambda x: bce(x, masks(x), per_class(x) * torch.inf),
    "our focal beyond one": lambda x: losses.sigmoid_focal_loss(x, (3 * masks(x)).byte()),
    "our sums of other pixels": lambda x: ops.sigmoid_sums(x, masks(x)[..., :9]),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_none_of_ours_is_torchs(name: str) -> None:
    plain = common.outcome(with_gradient(COMPUTED[name]), common.scores(), fused=False)
    ours = common.outcome(with_gradient(COMPUTED[name]), common.scores(), fused=True)
    common.assert_same(ours, plain)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("weight", [None, per_pixel])
def test_second_derivative(reduction: str, weight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        weights = None if weight is None else weight(logits)
        loss = bce(logits, masks(logits, True), weights, reduction=reduction).sum()
        (first,) = torch.autograd.grad(loss, coarse, create_graph=True)
        first.square().sum().backward()
        return first, coarse.grad

    agrees(program, monkeypatch, computed=1)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_scores_and_gradients_that_are_not_finite(value: float, reduction: str) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.no_grad():
            coarse[0, 1, 2, 3] = value
        logits = up(coarse)
        loss = bce(logits, masks(logits), reduction=reduction)
        loss.sum().backward()
        return loss, coarse.grad, logits > 0, logits.sigmoid() > 0.5

    def scaled(coarse: Tensor) -> Any:
        logits = up(coarse)
        (bce(logits, masks(logits), reduction=reduction) * value).sum().backward()
        return coarse.grad

    for run in (program, scaled):
        plain = common.outcome(run, common.scores(), fused=False)
        common.assert_same(common.outcome(run, common.scores(), fused=True), plain)


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_that_are_not_finite(name: str, value: float, reduction: str) -> None:
    """And such that the loss is not."""

    def program(coarse: Tensor) -> Any:
        results = []
        for target in (masks(up(coarse)), masks(up(coarse)) * 0, masks(up(coarse)) * 0 + 1):
            coarse.grad = None
            weight = torch.ones(5, 1, 1).double()
            weight[2] = value
            loss = bce(up(coarse), target, reduction=reduction, **{name: weight})
            loss.sum().backward()
            results += [loss, coarse.grad]
        return results

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("autocast", [False, True])
def test_dtypes(
    dtype: torch.dtype, reduction: str, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = up(coarse)
            loss = bce(logits, masks(logits), reduction=reduction)
        loss.mean().backward()
        # What is rounded to half precision on the way differs in its last bits.
        return loss.dtype, loss.to(dtype), coarse.grad

    agrees(program, monkeypatch, computed=0, dtype=dtype)


def test_changed_in_between() -> None:
    """A target that is changed before the backward pass is refused, as by torch."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        target = masks(logits)
        loss = bce(logits, target)
        target.zero_()
        loss.backward()
        return coarse.grad

    plain = common.outcome(program, common.scores(), fused=False)
    assert isinstance(plain, RuntimeError)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal_loss"])
def test_our_pixels_of_logits_changed_in_between(name: str) -> None:
    """The loss has taken what it needs of them."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        loss = getattr(losses, name)(logits, masks(logits).bool(), reduction="pixels")
        logits.mul_(2)
        loss.sum().backward()
        return loss, coarse.grad

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


def test_within_a_checkpoint() -> None:
    def program(coarse: Tensor) -> Any:
        def loss(coarse: Tensor) -> Any:
            logits = up(coarse)
            return bce(logits, masks(logits))

        checkpoint(loss, coarse, use_reentrant=False).backward()
        return coarse.grad

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


def test_a_graph_that_is_retained() -> None:
    """It gives the same gradient again."""
    coarse = common.scores()
    with fcn_ext.fused_upsampling():
        logits = up(coarse, SIZE)
        loss = bce(logits, masks(logits))
    first = torch.autograd.grad(loss, coarse, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, coarse)[0], first)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [{}, {"pos_weight": per_class}, {"weight": per_class}])
def test_a_gradient_that_is_not_finite(
    value: float, reduction: str, soft: bool, weights: dict[str, Any]
) -> None:
    """As where the loss was scaled too much."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        options = {name: make(logits) for name, make in weights.items()}
        loss = bce(logits, masks(logits, soft), reduction=reduction, **options)
        loss.backward(torch.full_like(loss, value))
        return loss, coarse.grad

    common.assert_as_plain(program, common.scores)


def test_a_gradient_that_a_weight_makes_infinite() -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        loss = bce(logits, masks(logits), pos_weight=per_class(logits))
        loss.backward(torch.full_like(loss, 1e308))
        return loss, coarse.grad

    common.assert_as_plain(program, common.scores)


@pytest.mark.parametrize("name", ["weight", "pos_weight", "input"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_changed_in_between(name: str, reduction: str) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse * 1)
        given = {"weight": per_class(logits), "pos_weight": per_class(logits), "input": logits}
        loss = bce(target=masks(logits), reduction=reduction, **given)
        with torch.no_grad():
            given[name].mul_(2)
        loss.backward()
        return coarse.grad

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)
