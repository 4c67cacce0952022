"""This package's distillation of deferred logits: a teacher's and a student's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fcn_ext import losses

from . import common
from .common import SIZE, agrees, labels, outcome, up, with_gradient

distilled = losses.distillation_loss


def teacher(student: Tensor, **options: Any) -> Tensor:
    """The logits of another net for the same images."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn((len(student), 5, 6, 7), dtype=torch.float64, generator=generator)
    with torch.no_grad():
        return up(scores.to(student.dtype), **options)


def marked(logits: Tensor) -> Tensor:
    return labels(shape=(len(logits), *SIZE))


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: distilled(x, teacher(x), SIZE),
    "sum, cooled": lambda x: distilled(x, teacher(x), SIZE, temperature=4.0, reduction="sum"),
    "warm": lambda x: distilled(x, teacher(x), SIZE, temperature=20.0),
    "of images": lambda x: distilled(x, teacher(x), target=marked(x), reduction="batchmean"),
    "void": lambda x: distilled(
        x, teacher(x), target=marked(x), ignore_index=-100, temperature=2.0
    ),
    "void of other labels": lambda x: distilled(
        x, teacher(x), SIZE, target=marked(x).clamp(min=0).byte(), ignore_index=2
    ),
    "one image": lambda x: distilled(x[1:], teacher(x)[1:], SIZE),
    "image by image": lambda x: torch.stack(
        [distilled(s[None], t[None], SIZE) for s, t in zip(x, teacher(x), strict=True)]
    ),
    "of itself": lambda x: distilled(x, x.detach(), SIZE) + distilled(x, x, SIZE),
    "beside cross-entropy": lambda x: (
        distilled(x, teacher(x), SIZE, temperature=3.0) + 0.5 * F.cross_entropy(x, marked(x))
    ),
    "teacher that is learned": lambda x: distilled(x, teacher(x).requires_grad_(), SIZE),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        loss = LOSSES["void"](up(coarse))
        loss.backward()
        return loss.dtype, loss.to(dtype), coarse.grad

    agrees(program, monkeypatch, computed=0, dtype=dtype)


@pytest.mark.parametrize("aligned", [False, True])
def test_geometries(aligned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse, align_corners=aligned)
        loss = distilled(logits, teacher(coarse, align_corners=aligned), SIZE)
        loss.backward()
        return loss, coarse.grad

    agrees(program, monkeypatch, computed=0)


def changed(logits: Tensor) -> Tensor:
    """The loss has taken what it needs of both."""
    other = teacher(logits)
    loss = distilled(logits, other, SIZE)
    with torch.no_grad():
        other.zero_()
    logits.mul_(2)
    return loss


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "an ordinary teacher": lambda x: distilled(x, teacher(x) + 0, SIZE),
    "an ordinary student": lambda x: distilled(x * 1, teacher(x), SIZE),
    "a finer teacher": lambda x: distilled(x, up(x.detach()[:, :, :12, :14].contiguous()), SIZE),
    "other corners": lambda x: distilled(x, teacher(x, align_corners=True), SIZE),
    "turned": lambda x: distilled(x.mT, teacher(x).mT, SIZE[::-1]),
    "resized again": lambda x: distilled(x, teacher(x), (30, 31)),
    "of softmaxes": lambda x: distilled(x.softmax(1), teacher(x).softmax(1), SIZE),
    "infinite": lambda x: distilled(x, teacher(x), SIZE) * torch.inf,
    "a teacher of infinities": lambda x: distilled(x, up(teacher(x)[..., ::4, ::4] * 1e308), SIZE),
    "labels out of range": lambda x: distilled(x, teacher(x), target=marked(x)),
    "labels of another size": lambda x: distilled(x, teacher(x), target=marked(x)[:, 1:]),
    "another batch": lambda x: distilled(x, teacher(x)[:1], SIZE),
    "no size": lambda x: distilled(x, teacher(x)),
    "changed": changed,
    "recomputed": lambda x: checkpoint(LOSSES["void"], x, use_reentrant=False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_as_ever(name: str) -> None:
    common.assert_as_plain_or_refused(with_gradient(OTHERS[name]))


def test_gradients_at_full_size() -> None:
    """Which a hook sees."""

    def program(coarse: Tensor) -> Any:
        logits, seen = up(coarse), []
        logits.register_hook(lambda grad: seen.append(grad + 0) or grad * 2)
        LOSSES["void"](logits).backward()
        return seen, coarse.grad

    plain = outcome(program, common.scores(), fused=False)
    common.assert_same(outcome(program, common.scores(), fused=True), plain)
