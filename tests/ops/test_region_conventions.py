"""The conventions of region losses against the formulas of the libraries that they are named after,
written on probabilities (N, C, H, W) and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses
from fcn_ext.losses import CONVENTIONS

from .heads import PLAIN
from .losses import near


def _parts(p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    valid = (target != 255).unsqueeze(1)
    one_hot = F.one_hot(torch.where(target == 255, 0, target).long(), p.shape[1]).movedim(3, 1)
    return p * valid, one_hot * valid


def of_smp(p: Tensor, target: Tensor) -> Tensor:
    p, t = _parts(p, target)
    of_batch = (0, 2, 3)
    cardinality = (p + t).sum(of_batch)
    score = 2 * (p * t).sum(of_batch) / cardinality.clamp_min(1e-7)
    return ((1 - score) * (t.sum(of_batch) > 0)).mean()


def of_monai(p: Tensor, target: Tensor) -> Tensor:
    p, t = _parts(p, target)
    numerator = 2 * (p * t).sum((2, 3)) + 1e-5
    return (1 - numerator / (p.sum((2, 3)) + t.sum((2, 3)) + 1e-5)).mean()


def of_nnunet(p: Tensor, target: Tensor) -> Tensor:
    p, t = (of[:, 1:] for of in _parts(p, target))
    numerator = 2 * (p * t).sum((2, 3)).sum(0) + 1e-5
    return 1 - (numerator / (p.sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1e-5).clip(1e-8)).mean()


def of_ultralytics(p: Tensor, target: Tensor) -> Tensor:
    valid = target != 255
    flat, labels = p.movedim(1, 3)[valid], target[valid].long()
    own = flat.gather(1, labels[:, None])[:, 0]
    intersection = torch.zeros(p.shape[1], dtype=p.dtype).scatter_add(0, labels, own)
    cardinality = flat.sum(0) + torch.bincount(labels, minlength=p.shape[1])
    return (1 - (2 * intersection + 1) / (cardinality + 1)).mean()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions_are_those_of_the_libraries(convention: str) -> None:
    formulas: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "smp": of_smp,
        "monai": of_monai,
        "nnunet": of_nnunet,
        "ultralytics": of_ultralytics,
    }
    case = PLAIN[1]
    scores, target = case.scores(3, 6, torch.float64), case.labels(3, 5)  # class 5 is absent
    logits = F.interpolate(scores, case.fine, mode="bilinear")
    expected = formulas[convention](logits.softmax(1), target)
    found = losses.dice_loss(scores, target, case.geometry, convention=convention)
    near(found, expected, 1e-13)


WEIGHTED_MEANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smp": lambda each, weight: (each * weight).sum() / weight.sum(),
    "monai": lambda each, weight: (each * weight).mean(),
    "nnunet": lambda each, weight: (each * weight[1:]).mean(),
    "ultralytics": lambda each, weight: (each * weight).mean(),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", ["dice_loss", "jaccard_loss", "tversky_loss"])
def test_weighted_means_are_those_of_the_libraries(name: str, convention: str) -> None:
    case, loss = PLAIN[1], getattr(losses, name)
    scores, target = case.scores(3, 5, torch.float64), case.labels(3, 4)
    weight = torch.tensor([1.0, 2.0, 0.5, 0.0, 4.0], dtype=torch.float64)
    options: dict[str, Any] = {"convention": convention}
    each = loss(scores, target, case.geometry, reduction="none", **options)
    expected = WEIGHTED_MEANS[convention](each, weight)
    found = loss(scores, target, case.geometry, class_weight=weight, **options)
    near(found, expected, 1e-13)
    of_nothing = loss(scores, target, case.geometry, class_weight=0 * weight, **options)
    assert of_nothing.item() == 0
    in_sum = loss(scores, target, case.geometry, class_weight=weight, reduction="sum", **options)
    near(in_sum, (each * weight[-each.shape[-1] :]).sum(), 1e-13)


def test_monai_jaccard() -> None:
    case = PLAIN[1]
    scores, target = case.scores(2, 4, torch.float64), case.labels(2, 4)
    p, t = _parts(F.interpolate(scores, case.fine, mode="bilinear").softmax(1), target)
    intersection = (p * t).sum((2, 3))
    union = p.sum((2, 3)) + t.sum((2, 3)) - intersection
    expected = (1 - (2 * intersection + 1e-5) / (2 * union + 1e-5)).mean()
    near(losses.jaccard_loss(scores, target, convention="monai"), expected, 1e-13)
