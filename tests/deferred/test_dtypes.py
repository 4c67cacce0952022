"""Deferred logits of another dtype than their scores: what is taken of them has theirs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses, ops, prediction
from fcn_ext.calibration import Calibration
from fcn_ext.metrics import ConfusionMatrix

from . import common
from .common import SIZE, TOLERANCE, labels, scores, up

CONVERSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "float": lambda x: x.float(),
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.to(torch.bfloat16),
    "type_as": lambda x: x.type_as(torch.zeros((), dtype=torch.float32)),
    "double, then float": lambda x: x.double()[:, :].float(),
}


def accumulated(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def weight(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 2, 5, dtype=accumulated(x))


def masks(x: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(x.shape, generator=generator).round().to(dtype)


VOID: dict[str, Any] = {"ignore_index": -100}
bce = F.binary_cross_entropy_with_logits

DIFFERENTIABLE: dict[str, Callable[[Tensor], Any]] = {
    "cross-entropy": lambda x: F.cross_entropy(x, labels(), weight(x).to(x.dtype)),
    "smoothed": lambda x: F.cross_entropy(x, labels(), weight(x).to(x.dtype), label_smoothing=0.1),
    "pixels": lambda x: F.cross_entropy(x, labels(), reduction="none", label_smoothing=0.1),
    "nll": lambda x: F.nll_loss(F.log_softmax(x, 1), labels()),
    "sigmoids": lambda x: bce(x, masks(x, x.dtype)),
    "sigmoids of pixels": lambda x: bce(x, masks(x, x.dtype), reduction="none"),
    "ours": lambda x: ops.cross_entropy(x, labels(), weight=weight(x), **VOID),
    "ours, of pixels": lambda x: ops.cross_entropy(x, labels(), reduction="none", **VOID),
    "region sums": lambda x: ops.region_sums(x, labels(), weight=weight(x), **VOID),
    "sigmoid sums": lambda x: ops.sigmoid_sums(x, masks(x), regions=True, gamma=2.0),
    "sigmoid loss": lambda x: ops.sigmoid_loss(
        x, masks(x), torch.linspace(0, 1, 40).view(5, 8).to(accumulated(x)) * 0.1
    ),
    "losses.cross_entropy": lambda x: losses.cross_entropy(x, labels(), **VOID),
    "dice": lambda x: losses.dice_loss(x, labels(), **VOID),
    "dice and cross-entropy": lambda x: losses.dice_cross_entropy_loss(
        x, labels(), weight=weight(x), **VOID
    ),
    "generalized dice": lambda x: losses.generalized_dice_loss(x, labels(), **VOID),
    "jaccard": lambda x: losses.jaccard_loss(x, labels(), **VOID),
    "tversky": lambda x: losses.tversky_loss(x, labels(), **VOID),
    "focal": lambda x: losses.focal_loss(x, labels(), **VOID),
    "ohem": lambda x: losses.ohem_cross_entropy(x, labels(), **VOID),
    "distillation": lambda x: losses.distillation_loss(x, x.detach().flip(1), size=SIZE),
    "sigmoid cross-entropy": lambda x: losses.sigmoid_cross_entropy(x, masks(x)),
    "sigmoid focal": lambda x: losses.sigmoid_focal_loss(x, masks(x)),
    "sigmoid dice": lambda x: losses.sigmoid_dice_loss(x, masks(x)),
    "sigmoid pixels": lambda x: losses.sigmoid_cross_entropy(x, masks(x), reduction="pixels"),
    "upsample": lambda x: ops.interpolate(x, (30, 40)),
}


def counted(x: Tensor) -> Any:
    matrix, table = ConfusionMatrix(5, ignore_index=-100), Calibration(5, ignore_index=-100)
    matrix.update(x, labels())
    matrix.update_scores(x, labels())
    table.update_scores(x, labels())
    return matrix.matrix.sum(), table.compute().num_pixels


PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: (x.argmax(1).dtype, x.max(1)[0], x.softmax(1).max(1)[0]),
    "our argmax": lambda x: ops.argmax(x, SIZE, return_probability=True)[1],
    "our argmax of log_softmax": lambda x: ops.argmax(
        x.log_softmax(1), SIZE, return_probability=True
    )[1],
    "our argmax, converted later": lambda x: [
        ops.argmax(form(x.log_softmax(1)), SIZE, return_probability=True)[1]
        for form in (torch.Tensor.float, torch.Tensor.double)
    ],
    "probabilities, converted later": lambda x: x.softmax(1).float().max(1)[0],
    "pixel accuracy": lambda x: losses.pixel_accuracy(x, labels(), **VOID).dtype,
    "masks": lambda x: prediction.masks(x, SIZE).masks.dtype,
    "sizes": lambda x: [part.dtype for part in prediction.argmax_sizes(x, [SIZE, (9, 9)])],
    "counts": counted,
}


def program(question: Callable[[Tensor], Any], conversion: str, *, differentiated: bool) -> Any:
    def run(coarse: Tensor) -> Any:
        result = question(CONVERSIONS[conversion](up(coarse)))
        parts = [part for part in common.flat(result) if isinstance(part, Tensor)]
        if differentiated:
            sum(part.double().sum() for part in parts if part.requires_grad).backward()
        return [result, coarse.grad]

    return run


def same_to(dtype: torch.dtype, ours: Any, plain: Any) -> None:
    """Dtypes exactly, values to the rounding of the least precise dtype on the way."""
    if isinstance(plain, Exception):
        raise plain
    if isinstance(ours, Exception):
        raise ours
    for mine, theirs in zip(common.flat(ours), common.flat(plain), strict=True):
        if not isinstance(theirs, Tensor):
            assert mine == theirs
            continue
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        tolerance = max(TOLERANCE[dtype], TOLERANCE.get(theirs.dtype, 0))
        whole = max(1.0, theirs.detach().abs().max().item())
        torch.testing.assert_close(
            mine + 0, theirs, rtol=tolerance, atol=tolerance * whole, check_stride=False
        )


def least(dtype: torch.dtype, conversion: str) -> torch.dtype:
    converted = CONVERSIONS[conversion](torch.zeros(1, 1, dtype=dtype)).dtype
    return max(dtype, converted, key=lambda kind: TOLERANCE[kind])


FORMS = list(itertools.product((torch.float64, torch.float32, torch.float16), CONVERSIONS))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize(("dtype", "conversion"), FORMS)
def test_losses(name: str, dtype: torch.dtype, conversion: str) -> None:
    run = program(DIFFERENTIABLE[name], conversion, differentiated=True)
    plain = common.outcome(run, scores(dtype), fused=False)
    ours = common.outcome(run, scores(dtype), fused=True)
    same_to(least(dtype, conversion), ours, plain)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize(("dtype", "conversion"), FORMS)
def test_predictions(name: str, dtype: torch.dtype, conversion: str) -> None:
    run = program(PREDICTIONS[name], conversion, differentiated=False)
    plain = common.outcome(run, scores(dtype), fused=False)
    ours = common.outcome(run, scores(dtype), fused=True)
    same_to(least(dtype, conversion), ours, plain)


@pytest.mark.parametrize("factor", [1e5, 1e39, 1e39 * 1e39])
@pytest.mark.parametrize("conversion", ["float", "half", "bfloat16"])
def test_scores_beyond_the_range_of_the_logits(factor: float, conversion: str) -> None:
    """They are infinite there, and what is taken of them is torch's."""

    def run(coarse: Tensor) -> Any:
        logits = CONVERSIONS[conversion](up(coarse.detach() * factor))
        again = logits.double()
        return [
            (F.cross_entropy(x, labels()), x.isfinite().all(), (x > 0).sum(), x.softmax(1).max())
            for x in (logits, again)
        ]

    plain = common.outcome(run, scores(), fused=False)
    ours = common.outcome(run, scores(), fused=True)
    for mine, theirs in zip(common.flat(ours), common.flat(plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-2, equal_nan=True)


def test_conversions_stay_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(coarse: Tensor) -> Any:
        logits = up(coarse).float()
        loss = losses.dice_cross_entropy_loss(logits, labels(), weight=weight(logits), **VOID)
        other = losses.sigmoid_focal_loss(logits, masks(logits))
        (loss + other).backward()
        return ()

    common.agrees(run, monkeypatch, computed=0)
