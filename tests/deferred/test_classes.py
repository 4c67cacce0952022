"""Slices of classes: their losses, labels and masks come from coarse scores, and so do their
gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses, ops, prediction

from .common import (
    SIZE,
    Loss,
    agrees,
    assert_as_plain,
    assert_same,
    labels,
    outcome,
    scores,
    up,
    with_gradient,
)

bce = F.binary_cross_entropy_with_logits


def ce(logits: Tensor) -> Tensor:
    """With labels of as many classes as the logits have, in dimension 1."""
    target = labels(logits.shape[1])[: len(logits)]
    return F.cross_entropy(logits, target)


def mask(logits: Tensor) -> Tensor:
    target = labels(2, (2, *SIZE)).clamp(min=0).to(logits.dtype)
    return bce(logits, target[: len(logits)] if logits.dim() == 3 else target[:, None])


def of_pixels(logits: Tensor) -> Tensor:
    rows = logits.permute(0, 2, 3, 1).flatten(0, 2)
    return F.cross_entropy(rows[:, 1:], labels(4).flatten())


def two_heads(logits: Tensor) -> Tensor:
    sem, depth = logits.split([4, 1], 1)
    return ce(sem) + 2 * mask(depth)


def head_of_torch(pieces: Any) -> Tensor:
    depth, sem = pieces
    return ce(sem) + F.l1_loss(depth.sigmoid(), torch.full_like(depth, 0.3))


def images_and_classes(logits: Tensor) -> Tensor:
    return ce(logits[1:][:, 2:]) + 2 * ce(logits[:, :3][:1])


def unbound(logits: Tensor) -> Tensor:
    parts = [(i + 1) * mask(plane) for i, plane in enumerate(logits.unbind(1))]
    return torch.stack(parts).sum()


LOSSES: dict[str, Loss] = {
    "without the first": lambda x: ce(x[:, 1:]),
    "the first": lambda x: ce(x[:, :3]),
    "from the end": lambda x: ce(x[:, -3:-1]),
    "every other": lambda x: ce(x[:, ::2]),
    "narrow": lambda x: ce(x.narrow(1, 2, 3)),
    "all": lambda x: ce(x.narrow(1, 0, 5)),
    "nested": lambda x: ce(x[:, 1:][:, 1:3]),
    "every other of some": lambda x: ce(x[:, 1:][:, ::2]),
    "some of every other": lambda x: ce(x[:, ::2][:, 1:]),
    "one": lambda x: mask(x[:, 0]),
    "the last": lambda x: mask(x[:, -1]),
    "one, with its dimension": lambda x: mask(x[:, 1:2]),
    "one of some": lambda x: mask(x[:, 1:].select(1, 2)),
    "one, with a new dimension": lambda x: mask(x[:, None, 1]),
    "one of every other": lambda x: mask(x[:, ::2].select(1, 1)),
    "one image's": lambda x: mask(x[1:, 2]),
    "of images": images_and_classes,
    "of each image": lambda x: torch.stack([ce(image[None, 1:]) for image in x]).sum(),
    "two heads": two_heads,
    "two slices": lambda x: ce(x[:, :4]) + 2 * mask(x[:, 4]),
    "overlapping": lambda x: ce(x[:, :4]) + 2 * ce(x[:, 2:]),
    "beside the whole": lambda x: ce(x) + 2 * ce(x[:, 1:]) + 3 * mask(x[:, 3]),
    "unbind": unbound,
    "split": lambda x: sum((ce(part) for part in x[:, :4].split(2, 1)), x.new_zeros(())),
    "chunk": lambda x: ce(x.chunk(2, 1)[0]) + mask(x.chunk(2, 1)[1][:, 0]),
    "tensor_split": lambda x: ce(x.tensor_split([2], 1)[1]),
    "one piece alone": lambda x: ce(x.split([4, 1], 1)[0]),
    "one plane alone": lambda x: mask(x.unbind(1)[2]),
    "pixels by classes": of_pixels,
    "smoothed": lambda x: F.cross_entropy(x[:, 1:], labels(4), label_smoothing=0.1),
    "weighed": lambda x: F.cross_entropy(x[:, 1:], labels(4), torch.arange(1, 5).to(x.dtype)),
    "of pixels": lambda x: F.cross_entropy(x[:, 1:], labels(4), reduction="none"),
    "of the log softmax": lambda x: F.nll_loss(x[:, 1:].log_softmax(1), labels(4)),
    "by gather": lambda x: -x[:, 1:].log_softmax(1).gather(1, labels(4).clamp(min=0)[:, None]),
    "binary, of pixels": lambda x: bce(
        x[:, 1:], labels(2, (2, 4, *SIZE)).clamp(min=0).to(x.dtype), reduction="none"
    ),
    "dice": lambda x: losses.dice_loss(x[:, 1:], labels(4), ignore_index=-100),
    "our cross-entropy": lambda x: losses.cross_entropy(x[:, 1:], labels(4), ignore_index=-100),
    "our accuracy": lambda x: losses.cross_entropy(
        x[:, 1:], labels(4), ignore_index=-100, return_accuracy=True
    )[0],
    "focal": lambda x: losses.focal_loss(x[:, :4], labels(4), ignore_index=-100),
    "ohem": lambda x: losses.ohem_cross_entropy(
        x[:, 1:], labels(4), threshold=0.7, ignore_index=-100
    ),
    "distillation": lambda x: losses.distillation_loss(
        x[:, 1:], up(2 * scores().detach().to(x.dtype))[:, 1:], ignore_index=-100
    ),
    "sigmoid dice": lambda x: losses.sigmoid_dice_loss(x[:, 1:2], labels(2)[:, None] == 1),
    "sigmoid focal": lambda x: losses.sigmoid_focal_loss(
        x[:, ::4], labels(2)[:, None].eq(1).expand(2, 2, *SIZE)
    ),
    "binary pixels of ours": lambda x: losses.sigmoid_cross_entropy(
        x[:, 3:4], labels(2)[:, None] == 1, reduction="pixels"
    ),
    "our binary": lambda x: losses.sigmoid_cross_entropy(x[:, 1:2], labels(2)[:, None] == 1),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    format = torch.channels_last if last else torch.contiguous_format

    def program(coarse: Tensor) -> Any:
        leaf = coarse.detach().contiguous(memory_format=format).requires_grad_()
        return with_gradient(LOSSES[name])(leaf)

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("shape", [(1, 5, 6, 7), (2, 2, 6, 7), (1, 1, 6, 7), (5, 5, 6, 7)])
def test_sizes_that_leave_open_which_axis_is_meant(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = torch.linspace(0, 1, SIZE[0] * SIZE[1]).round().view(SIZE).double()

    def program(coarse: Tensor) -> Any:
        x = up(coarse)
        planes = [plane for image in x for plane in image]
        planes += [plane for group in x.unbind(1) for plane in group]
        planes += [x[0][0], x[-1:, -1:][0, 0], x.transpose(0, 1)[0, 0], x[:, -1][-1]]
        loss = torch.stack([(i + 1) * bce(p, target) for i, p in enumerate(planes)]).sum()
        loss.backward()
        return loss, coarse.grad

    # As many images as classes: if one axis is taken for the other, torch computes the gradient.
    assert_as_plain(program, lambda: scores(shape=shape))
    if shape[0] != shape[1] or shape[0] == 1:
        agrees(program, monkeypatch, computed=0, shape=shape)


PREDICTIONS: dict[str, Any] = {
    "labels": lambda x: x[:, 1:].argmax(1),
    "labels of pixels by classes": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 5)[:, 1:4].argmax(1),
    "winners": lambda x: x[:, 1:].max(1),
    "winners of probabilities": lambda x: x[:, 1:].softmax(1).max(1),
    "winners of slices that overlap": lambda x: (x[:, 1:].max(1), x[:, :3].amax(1), x.max(1)),
    "winners of pieces": lambda x: [piece.max(1) for piece in x.split([2, 3], 1)],
    "a mask": lambda x: x[:, 0] > 0,
    "masks": lambda x: x[:, 1:] <= 0.2,
    "a mask of sigmoids": lambda x: x.sigmoid()[:, 0] > 0.6,
    "a mask of a sigmoid": lambda x: x[:, 0].sigmoid() > 0.6,
    "masks of planes": lambda x: [plane > 0.1 for plane in x.unbind(1)],
    "rounded sigmoids": lambda x: x[:, 1:3].sigmoid().round(),
    "by gather": lambda x: x[:, 1:].gather(1, labels(4).clamp(min=0)[:, None]),
    "shapes": lambda x: (torch.zeros_like(x[:, 1:]), x[:, 0].new_ones(3), x[:, ::2].stride()),
    "a copy": lambda x: x[:, 1:].clone().argmax(1),
    "another dtype": lambda x: x[:, 1:].float().argmax(1),
    "ours": lambda x: (
        ops.argmax(x[:, 1:], SIZE),
        ops.argmax(x[:, 1:], SIZE, return_probability=True),
        ops.confusion_matrix(x[:, 1:], labels(4), 4, ignore_index=-100),
        ops.score_confusion_matrix(x[:, :4], labels(4), ignore_index=-100),
        prediction.argmax_sizes(x[:, 1:], [SIZE, (9, 9)]),
        prediction.masks(x[:, 2:4], SIZE),
    ),
    "the same size": lambda x: up(x[:, 1:]).argmax(1),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(lambda coarse: PREDICTIONS[name](up(coarse.detach())), monkeypatch, computed=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(two_heads), monkeypatch, computed=0, dtype=dtype)


HEADS: dict[str, Loss] = {
    "one head of torch's": lambda x: head_of_torch(x.split([1, 4], 1)),
    "planes of torch's": lambda x: mask(x.unbind(1)[2]) + x.unbind(1)[0].exp().mean(),
    "torch's beside ours": lambda x: ce(y := x.split([4, 1], 1)[0]) + y.exp().mean(),
    "none of ours": lambda x: (a := x.split([4, 1], 1))[0].exp().mean() + a[1].square().mean(),
    "infinite": lambda x: ce((a := x.split([4, 1], 1))[0]) + (a[1] - a[1].detach()).sqrt().sum(),
    "images of torch's": lambda x: ce((a := x.split(1))[0]) + a[-1].exp().mean(),
}


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 5, 6, 7)])
@pytest.mark.parametrize("name", HEADS)
def test_heads_of_torch_beside_ours(name: str, shape: tuple[int, ...]) -> None:
    plain, ours = (
        outcome(with_gradient(HEADS[name]), scores(shape=shape), fused=fused)
        for fused in (False, True)
    )
    assert_same(ours, plain)


def test_second_derivatives() -> None:
    def program(coarse: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(two_heads(up(coarse)), coarse, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), coarse)[0]

    plain = outcome(program, scores(), fused=False)
    assert_same(outcome(program, scores(), fused=True), plain)


def test_under_autocast() -> None:
    def program(coarse: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            loss = two_heads(up(coarse.bfloat16()))
        loss.backward()
        return loss, coarse.grad

    ours, plain = (outcome(program, scores(torch.float32), fused=fused) for fused in (True, False))
    assert ours[0].dtype == plain[0].dtype
    torch.testing.assert_close(ours[0], plain[0], rtol=5e-2, atol=5e-2)
    torch.testing.assert_close(ours[1], plain[1], rtol=5e-2, atol=5e-2)
