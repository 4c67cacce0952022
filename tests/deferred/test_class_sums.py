"""Sums and means of logarithms of probabilities over the classes, straight from coarse scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .common import (
    Loss,
    agrees,
    assert_as_plain,
    assert_as_plain_or_refused,
    labels,
    scores,
    up,
    with_gradient,
)


def smoothed(logits: Tensor) -> Tensor:
    """As segmentation_models.pytorch and others smooth labels, with void."""
    logarithms = F.log_softmax(logits, dim=1)
    target = labels().unsqueeze(1)
    void = target.eq(-100)
    of_label = -logarithms.gather(dim=1, index=target.masked_fill(void, 0))
    of_all = -logarithms.sum(dim=1, keepdim=True)
    of_label, of_all = of_label.masked_fill(void, 0.0), of_all.masked_fill(void, 0.0)
    return 0.9 * of_label.mean() + 0.1 / 5 * of_all.mean()


def of_rows(logits: Tensor) -> Tensor:
    """As timm does, for rows of classes."""
    logarithms = F.log_softmax(logits.permute(0, 2, 3, 1).reshape(-1, 5), dim=-1)
    target = labels().clamp(min=0).view(-1)
    of_label = -logarithms.gather(dim=-1, index=target.unsqueeze(1)).squeeze(1)
    return (0.9 * of_label - 0.1 * logarithms.mean(dim=-1)).mean()


LOSSES: dict[str, Loss] = {
    "smoothed labels": smoothed,
    "rows": of_rows,
    "a tuple of dimensions": lambda x: torch.sum(x.log_softmax(1), (1,)).square().mean(),
    "an image": lambda x: torch.mean(x[1].log_softmax(0), 0, True).square().mean(),
    "some classes": lambda x: x[:, 1:].log_softmax(1).sum(1).exp().mean(),
    "columns first": lambda x: x.permute(3, 1, 0, 2).log_softmax(1).mean(1).square().mean(),
    "beside the loss": lambda x: F.cross_entropy(x, labels()) - x.log_softmax(1).mean(1).mean(),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0, dtype=dtype)


def test_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        last = coarse.detach().contiguous(memory_format=torch.channels_last)
        x, y = (up(given).log_softmax(1) for given in (coarse.detach(), last))
        return x.sum(1), x.mT.mean(1, True), y.sum(1, keepdim=True), y.permute(0, 2, 3, 1).mean(-1)

    agrees(program, monkeypatch, computed=0)


OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "all": lambda p: (p.sum(), p.mean()),
    "rows and classes": lambda p: p.sum((1, 2)),
    "another dimension": lambda p: p.mean(2),
    "another dtype": lambda p: p.sum(1, dtype=torch.float32),
    "another name": lambda p: p.sum(axis=1),
    "out": lambda p: torch.sum(p.detach(), 1, out=p.new_empty(0)),
    "some of the classes": lambda p: p[:, 1:].sum(1),
    "a crop": lambda p: p[:, :, 2:].mean(1),
    "no dimension": lambda p: p.sum(7),
    "a word": lambda p: p.mean("classes"),
    "a flag": lambda p: p.sum(True),
}


@pytest.mark.parametrize("kind", [F.log_softmax, F.softmax, lambda x, dim: x])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_torchs(name: str, kind: Any) -> None:
    def program(coarse: Tensor) -> Any:
        return OTHERS[name](kind(up(coarse), dim=1))

    assert_as_plain_or_refused(program)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_scores_and_gradients_that_are_not_finite(value: float) -> None:
    def program(coarse: Tensor) -> Any:
        first = F.log_softmax(up(coarse), 1).sum(1)
        first.mean().mul(value).backward()
        with torch.no_grad():
            coarse[0, 1, 2, 3] = value
        return first, F.log_softmax(up(coarse), 1).mean(1), coarse.grad

    assert_as_plain(program, scores)


def test_second_derivative() -> None:
    def program(coarse: Tensor) -> Any:
        loss = F.log_softmax(up(coarse), dim=1).sum(1).square().sum()
        (first,) = torch.autograd.grad(loss, coarse, create_graph=True)
        return first, torch.autograd.grad(first.square().sum(), coarse)[0]

    assert_as_plain(program, scores)
