"""Many gradients at once, by either vmap of torch: nothing may ask for elements."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from fcn_ext import losses, ops

from . import common
from .common import Loss, labels, scores, up

SMALL = (7, 8)


def target() -> Tensor:
    return labels(shape=(2, *SMALL))


def masks(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(x.shape, generator=generator, dtype=torch.float64).round()


def weight(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 2, 5, dtype=x.dtype)


bce = F.binary_cross_entropy_with_logits

LOSSES: dict[str, Loss] = {
    "cross-entropy": lambda x: F.cross_entropy(x, target()),
    "cross-entropy of pixels": lambda x: F.cross_entropy(x, target(), reduction="none"),
    "smoothed": lambda x: F.cross_entropy(x, target(), label_smoothing=0.1),
    "smoothed, of pixels": lambda x: F.cross_entropy(
        x, target(), weight(x), reduction="none", label_smoothing=0.1
    ),
    "sigmoids": lambda x: bce(x, masks(x)),
    "sum of sigmoids": lambda x: bce(x, masks(x), reduction="sum"),
    "sigmoids of pixels": lambda x: bce(x, masks(x), reduction="none"),
    "weighed sigmoids": lambda x: bce(x, masks(x), masks(x) + 1, pos_weight=masks(x) + 2),
    "ours": lambda x: ops.cross_entropy(x, target(), ignore_index=-100),
    "ours, of pixels": lambda x: ops.cross_entropy(
        x, target(), ignore_index=-100, reduction="none"
    ),
    "our Dice": lambda x: losses.dice_loss(x, target(), ignore_index=-100, reduction="none"),
    "our Dice with cross-entropy": lambda x: losses.dice_cross_entropy_loss(
        x, target(), ignore_index=-100
    ),
    "our focal": lambda x: losses.focal_loss(x, target(), ignore_index=-100),
    "our sigmoids": lambda x: losses.sigmoid_cross_entropy(x, masks(x)),
    "our focal of sigmoids": lambda x: losses.sigmoid_focal_loss(x, masks(x).bool()),
    "our Dice of sigmoids": lambda x: losses.sigmoid_dice_loss(x, masks(x), reduction="none"),
    "logits": lambda x: x[:, 0, 0],
    "probabilities": lambda x: x.softmax(1)[:, :, 2, 3],
    "probabilities of labels": lambda x: x.softmax(1).gather(1, target().clamp(min=0)[:, None]),
    "their logarithms": lambda x: x.log_softmax(1).gather(1, target().clamp(min=0)[:, None]),
    "two losses": lambda x: F.cross_entropy(x, target()) + x.softmax(1)[:, 1].square().mean(),
}


def compared(program: Any) -> None:
    common.assert_as_plain(program, scores)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_a_batch(name: str) -> None:
    def program(coarse: Tensor) -> Any:
        loss = LOSSES[name](up(coarse, SMALL)).flatten()[:6]
        eye = torch.eye(len(loss), dtype=loss.dtype)
        return torch.autograd.grad(loss, coarse, eye, is_grads_batched=True)

    compared(program)


@pytest.mark.parametrize("name", LOSSES)
def test_jacobian(name: str) -> None:
    compared(
        lambda coarse: jacobian(
            lambda x: LOSSES[name](up(x, SMALL)).flatten()[:6], coarse.detach(), vectorize=True
        )
    )


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_over_a_backward_pass(name: str) -> None:
    def program(coarse: Tensor) -> Any:
        loss = LOSSES[name](up(coarse, SMALL)).flatten()[:6]

        def of(grad: Tensor) -> Any:
            return torch.autograd.grad(loss, coarse, grad, retain_graph=True)[0]

        return torch.func.vmap(of)(torch.eye(len(loss), dtype=loss.dtype))

    plain = common.outcome(program, scores(), fused=False)
    common.assert_same(common.outcome(program, scores(), fused=True), plain)


@pytest.mark.parametrize("name", ["smoothed", "sigmoids", "sigmoids of pixels"])
def test_hessian(name: str) -> None:
    def loss(x: Tensor) -> Tensor:
        return LOSSES[name](up(x, SMALL)).flatten()[:3].sum()

    compared(lambda coarse: hessian(loss, coarse.detach(), vectorize=True))


@pytest.mark.parametrize("name", ["smoothed", "sigmoids", "our sigmoids", "our Dice"])
def test_gradients_by_the_logits(name: str) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse, SMALL)
        loss = LOSSES[name](logits).flatten()[:4]
        eye = torch.eye(len(loss), dtype=loss.dtype)
        return torch.autograd.grad(loss, (logits, coarse), eye, is_grads_batched=True)

    compared(program)


@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_logits_from_outside_of_what_is_transformed(name: str, differentiated: bool) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.set_grad_enabled(differentiated):
            logits = up(coarse, SMALL)
        one = torch.ones((), dtype=torch.float64)

        def loss(factor: Tensor) -> Tensor:
            return factor * LOSSES[name](logits).sum()

        return torch.func.grad(loss)(one), torch.func.jvp(loss, (one,), (one,))

    compared(program)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_logits_from_outside_of_vmap(reduction: str) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse, SMALL)
        target, factor = masks(logits), torch.ones(3, dtype=torch.float64)
        return torch.func.vmap(lambda f: f * bce(logits, target, reduction=reduction))(factor)

    compared(program)
