"""Some classes of crops, and of logits that are resized again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.metrics import ConfusionMatrix

from .common import agrees, assert_as_plain, assert_same, labels, outcome, scores, up

bce = F.binary_cross_entropy_with_logits

# Of logits (2, 5, 24, 28).
PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "at once": lambda x: x[:, 1:, 2:19, 3:26],
    "classes first": lambda x: x[:, 1:4][..., :20, 5:],
    "crop first": lambda x: x[..., 4:][:, ::2],
    "in many steps": lambda x: x[:, 1:][..., 1:][1:][:, ::2][:, :, :-3],
    "padding": lambda x: F.pad(x, (0, -3, -2, 0, -1, 0)),
    "a copy": lambda x: x[:, 2:, :9].contiguous()[:, :2, 2:],
    "classes last": lambda x: x.permute(0, 2, 3, 1)[:, 3:9, :, 2:].permute(0, 3, 1, 2),
}
TWICE: dict[str, Callable[[Tensor], Tensor]] = {
    "larger": lambda x: up(x[:, 1:, :20], (33, 29)),
    "smaller": lambda x: up(x[:, ::2, :, 3:], (13, 17)),
    "of probabilities": lambda x: up(x.softmax(1)[:, 1:4, 2:], (30, 30)),
    "of probabilities of some": lambda x: up(x[:, 1:].softmax(1)[:, ::2], (30, 30)),
    "of sigmoids": lambda x: up(x.sigmoid()[:, 1:, 2:], (30, 30)),
    "classes of it": lambda x: up(x[..., 3:], (30, 30))[:, 1:3],
    "classes of both": lambda x: up(x[:, 1:], (30, 30))[1:, ::2, 5:],
    "probabilities of probabilities": lambda x: up(x.softmax(1)[:, :4], (30, 30))[:, 1:],
    "three times": lambda x: up(up(x[:, 1:], (30, 30))[:, 1:, 2:], (20, 31))[:, 1:],
}
PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: x.argmax(1),
    "max": lambda x: x.max(1),
    "topk": lambda x: x.topk(1, dim=1),
    "probabilities": lambda x: x.softmax(1).max(1),
    "masks": lambda x: (x > 0.1, x[:, 1] <= 0.3, x[:, 0].sigmoid() > 0.4),
    "mask of two": lambda x: x[:, :2].softmax(1)[:, 1] > 0.6,
    "masks of two": lambda x: [p < 0.6 for p in x[:, :2].softmax(1).unbind(1)],
    "an image's": lambda x: x[0, :, 1:].argmax(0),
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("part", [*PARTS, *TWICE])
def test_predictions(part: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = (PARTS | TWICE)[part](up(coarse.detach()))
        return PREDICTIONS[name](x), x.stride()

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("part", ["at once", "classes of both"])
def test_counts(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = (PARTS | TWICE)[part](up(coarse.detach()))
        matrix = ConfusionMatrix(x.shape[1], ignore_index=-100)
        matrix.update(x, labels(x.shape[1], (len(x), *x.shape[2:])))
        return matrix.matrix

    agrees(program, monkeypatch, computed=0)


def ce(x: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(x, labels(x.shape[1], (len(x), *x.shape[2:])), **options)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": ce,
    "smoothed": lambda x: ce(x, label_smoothing=0.1),
    "of pixels": lambda x: ce(x, reduction="none"),
    "of two parts": lambda x: ce(x) + 2 * ce(x[:, :2, 1:]),
    "two heads": lambda x: ce((a := x.split([x.shape[1] - 1, 1], 1))[0]) + ce(a[1][..., 1:]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("part", [name for name in PARTS if name != "padding"])
def test_losses(part: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        loss = LOSSES[name](PARTS[part](up(coarse)))
        loss.sum().backward()
        return loss, coarse.grad

    agrees(program, monkeypatch, computed=0)


BACKWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "a piece of torch's": lambda x: ce((a := x[:, :, 3:].split([4, 1], 1))[0]) + a[1].exp().mean(),
    "pieces of crops that differ": lambda x: (
        ce((a := x.split([4, 1], 1))[0][:, :, 3:]) + ce(a[1][..., 1:])
    ),
    "planes": lambda x: ce((a := x[..., 2:].unbind(1))[2][:, None]) + a[0].exp().mean(),
    "images": lambda x: ce((a := x[:, 1:, 2:].split(1))[0]) + a[1].exp().mean(),
    "rows": lambda x: ce((a := x[:, 1:].split(12, 2))[0]) + ce(a[1][:, 1:]),
    "binary": lambda x: bce(x[:, 1, 2:], (x[:, 1, 2:].detach() > 0).to(x.dtype)),
    "padding": lambda x: ce(PARTS["padding"](x)),
    "resized again": lambda x: ce(up(x[:, 1:, 2:], (30, 31))[:, :2, 3:]),
    "probabilities, resized": lambda x: up(x.softmax(1)[:, 1:3, 2:], (30, 31)).square().mean(),
    "every ninth class of one image": lambda x: bce(x[1:][:, ::9], torch.ones_like(x[1:][:, ::9])),
    "every ninth class": lambda x: ce(x[1:2][:, 1::9, 2:]),
    "every second class, of which one": lambda x: ce(x[1:][:, 3::2][:, :1]),
}


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (5, 5, 6, 7), (1, 5, 6, 7)])
@pytest.mark.parametrize("name", BACKWARDS)
def test_gradients(name: str, shape: tuple[int, ...]) -> None:
    def program(coarse: Tensor) -> Any:
        x = up(coarse)
        loss = BACKWARDS[name](x)
        loss.backward()
        return loss, coarse.grad

    assert_same(
        outcome(program, scores(shape=shape), fused=True),
        outcome(program, scores(shape=shape), fused=False),
    )


TOLD: dict[str, Callable[[Tensor], Any]] = {
    "of a crop": lambda x: (x[:, 1:, 2:].amax(1, True) == x[:, 1:, 2:]).sum(1),
    "then all": lambda x: (x[:, 2:, 3:].amax(1, True) == x[:, :, 3:]).sum(1),
    "of all": lambda x: ((y := x.amax(1, True)), (y[..., 2:] == x[..., 2:].clone()).sum(1)),
    "beside": lambda x: (x[:, 2:, 3:].amax(1, True) == x[:, 1:4, 3:].clone()).sum(1),
    "a plane of a crop": lambda x: (x[:, 1, 2:] * 1 == x[:, :, 2:].amax(1)).sum(),
    "one of a copy": lambda x: ((y := x[..., 2:].clone())[:, 1] * 1 == y.amax(1)).sum(),
    "by gather": lambda x: (
        x[:, 1:].gather(1, labels(4).clamp(min=0)[:, None])[..., 3:] == x[..., 3:].clone()
    ).sum(1),
    "resized again": lambda x: ((y := up(x[..., 3:], (30, 30)))[:, 1:].amax(1, True) == y).sum(1),
    "of some, resized": lambda x: (
        (y := up(x[:, 1:], (30, 30)))[:, 1:, 4:].amax(1, True) == y[:, :3, 4:].clone()
    ).sum(1),
    "smaller": lambda x: ((y := up(x[:, 1:], (20, 9)))[:, 1:].amax(1, True) == y).sum(1),
    "a plane, resized": lambda x: ((y := up(x[:, 1:], (30, 30)))[:, 1] * 1 == y.amax(1)).sum(),
}


@pytest.mark.parametrize("kind", ["logits", "softmax"])
@pytest.mark.parametrize("name", TOLD)
def test_numbers_agree_with_those_given_before(name: str, kind: str) -> None:
    def program(coarse: Tensor) -> Any:
        x = up(coarse.detach())
        return TOLD[name](x.softmax(1) if kind == "softmax" else x)

    assert_as_plain(program, scores)


# Of ten classes, each with how often all of them are computed.
ALONE: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "a plane": (lambda x: x[:, 1, 2:] * 2, 0),
    "of a copy": (lambda x: x[..., 2:].clone()[:, 1] * 2, 0),
    "a copy": (lambda x: x[:, 2:, 3:, 1:].contiguous().exp(), 0),
    "a probability": (lambda x: x.softmax(1)[:, 1, :, 3:] * 2, 0),
    "of a crop's softmax": (lambda x: x[..., 3:].softmax(1)[:, 1] * 2, 0),
    "padded": (lambda x: F.pad(x, (-1, -1, 0, 0, -8, 0)) * 2, 1),
    "padded softmax": (lambda x: F.pad(x.softmax(1), (-1, -1, 0, 0, -8, 0)).argmax(1), 1),
    "resized again": (lambda x: up(x[..., 2:], (30, 30))[:, 1] * 2, 1),
    "resized probability": (lambda x: up(x[..., 2:], (30, 30)).softmax(1)[:, 1, 3:] * 2, 0),
}


@pytest.mark.parametrize("name", ALONE)
def test_classes_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use, computed = ALONE[name]
    agrees(
        lambda coarse: use(up(coarse.detach())),
        monkeypatch,
        computed=computed,
        shape=(2, 10, 6, 7),
    )
