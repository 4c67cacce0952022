"""A batch that is taken apart: its pieces stay deferred, and so does the gradient of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses

from .common import SIZE, Loss, agrees, assert_same, labels, outcome, scores, up, with_gradient

SHAPE = (5, 5, 6, 7)
bce = F.binary_cross_entropy_with_logits


def targets() -> Tensor:
    return labels(shape=(5, *SIZE))


def of_images(parts: Any, target: Tensor | None = None) -> Tensor:
    """Each counts differently, so that none can take another's place."""
    pairs = zip(parts, targets() if target is None else target, strict=True)
    each = [F.cross_entropy(x[None], t[None]) for x, t in pairs]
    return torch.stack([(i + 1) * loss for i, loss in enumerate(each)])


def of_parts(parts: Any, of_labels: Any, loss: Any = F.cross_entropy) -> Tensor:
    pairs = zip(parts, of_labels, strict=True)
    return torch.stack([(i + 1) * loss(x, t) for i, (x, t) in enumerate(pairs)])


def smoothed(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, label_smoothing=0.1)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    return losses.dice_loss(logits, target, ignore_index=-100)


LOSSES: dict[str, Loss] = {
    "iteration": of_images,
    "unbind": lambda x: of_images(x.unbind()),
    "unbind of another dimension": lambda x: of_images(x.movedim(0, 3).unbind(-1)),
    "unbind of the log softmax": lambda x: torch.stack(
        [F.nll_loss(p[None], t[None]) for p, t in zip(x.log_softmax(1), targets(), strict=True)]
    ),
    "split": lambda x: of_parts(x.split(1), targets().split(1)),
    "split with a rest": lambda x: of_parts(x.split(2), targets().split(2)),
    "split by sizes": lambda x: of_parts(x.split([1, 3, 1]), targets().split([1, 3, 1])),
    "chunk": lambda x: of_parts(x.chunk(2), targets().chunk(2)),
    "tensor_split": lambda x: of_parts(x.tensor_split(3), targets().tensor_split(3)),
    "one piece": lambda x: of_parts(x.split(8), targets().split(8)),
    "pieces of pieces": lambda x: of_parts(
        [b for a in x.split(3) for b in a.split(2)], targets().split([2, 1, 2])
    ),
    "images of pieces": lambda x: of_images([b for a in x.split(3) for b in a]),
    "pieces of a slice": lambda x: of_parts(x[1:4].split(2), targets()[1:4].split(2)),
    "images of a turned batch": lambda x: of_images(x.mT, targets().mT),
    "pieces and the whole": lambda x: (
        of_parts(x.split(2), targets().split(2)).sum() + 3 * F.cross_entropy(x, targets())
    ),
    "smoothed": lambda x: of_parts(x.split(2), targets().split(2), smoothed),
    "binary": lambda x: of_parts(
        list(x), [(t == 1).to(x.dtype).expand(5, *SIZE) for t in targets()], bce
    ),
    "ours": lambda x: of_parts(x.split(2), targets().split(2), dice),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0, shape=SHAPE)


PREDICTIONS: dict[str, Any] = {
    "labels of images": lambda x: [image.argmax(0) for image in x],
    "winners of pieces": lambda x: [part for piece in x.chunk(3) for part in piece.max(1)],
    "masks of images": lambda x: [image.sigmoid() > 0.6 for image in x.unbind()],
    "masks of pieces": lambda x: [piece > 0 for piece in x.split([4, 1])],
    "one image": lambda x: [image.squeeze(0).argmax(0) for image in x[2:3].split(1)],
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("differentiated", [False, True])
def test_predictions(name: str, differentiated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.set_grad_enabled(differentiated):
            return PREDICTIONS[name](up(coarse))

    agrees(program, monkeypatch, computed=0, shape=SHAPE)


def changed(logits: Tensor, differentiated: bool) -> Tensor:
    """A piece that is changed in place: refused where it has a graph."""
    with torch.set_grad_enabled(differentiated):
        logits.split(2)[1].mul_(2)
    return F.cross_entropy(logits, targets())


def hooked(logits: Tensor) -> Tensor:
    pieces = logits.split(2)
    pieces[1].register_hook(lambda grad: 2 * grad)
    return of_parts(pieces, targets().split(2))


OTHERS: dict[str, Loss] = {
    "classes": lambda x: torch.stack([a.square().mean() for a in x.unbind(1)]),
    "some classes": lambda x: F.cross_entropy(x.split(3, dim=1)[0], targets().clamp(max=2)),
    "rows": lambda x: torch.stack([a.exp().mean() for a in x.chunk(3, dim=2)]),
    "pixels": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 5).split(1000)[1].square().mean(),
    "some images": lambda x: of_images(x.unbind()[1:3], targets()[1:3]),
    "some pieces": lambda x: of_parts(x.split(2)[1:], targets().split(2)[1:]),
    "beside another gradient": lambda x: of_images(x) + x.square().mean(),
    "one image twice": lambda x: of_images([x[0], *x[1:]]) + x.unbind()[0].mean(),
    "in another order": lambda x: F.cross_entropy(torch.stack([*x][::-1]), targets()),
    "put together again": lambda x: F.cross_entropy(torch.cat(x.chunk(2)), targets()),
    "hooked": hooked,
    "changed": lambda x: changed(x, False),
    "changed, with a graph": lambda x: changed(x, True),
    "no such dimension": lambda x: x.unbind(7)[0],
    "a size of zero": lambda x: x.split(0)[0],
    "a size below zero": lambda x: x.split([-1, 6])[0],
    "sizes of another sum": lambda x: x.split([2, 2])[0],
    "sizes of zero": lambda x: of_parts(x.split([0, 5])[1:], [targets()]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_torchs(name: str) -> None:
    program = with_gradient(OTHERS[name])
    plain = outcome(program, scores(shape=SHAPE), fused=False)
    ours = outcome(program, scores(shape=SHAPE), fused=True)
    assert_same(ours, plain)
    if isinstance(plain, Exception):
        assert str(ours) == str(plain)


def test_second_derivatives() -> None:
    def program(coarse: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(of_images(up(coarse)).sum(), coarse, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), coarse)[0]

    plain = outcome(program, scores(shape=SHAPE), fused=False)
    assert_same(outcome(program, scores(shape=SHAPE), fused=True), plain)
