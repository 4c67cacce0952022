"""Losses straight from coarse scores: values, gradients, second derivatives."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext import losses, ops

from . import common
from .common import SIZE, Loss, agrees, labels, up, with_gradient

CLASS_WEIGHTS = [1.0, 0.5, 2.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("reduction", "weighted", "smoothing", "ignore_index"),
    list(itertools.product(["mean", "sum", "none"], [False, True], [0.0, 0.2, 1.0], [-100, 1])),
)
def test_cross_entropy(
    reduction: str,
    weighted: bool,
    smoothing: float,
    ignore_index: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss(logits: Tensor) -> Tensor:
        weight = torch.tensor(CLASS_WEIGHTS, dtype=logits.dtype) if weighted else None
        module = nn.CrossEntropyLoss(weight, None, ignore_index, None, reduction, smoothing)
        value: Tensor = module(logits, labels().clamp(min=ignore_index))
        return value

    agrees(with_gradient(loss), monkeypatch, computed=0)


def rows(logits: Tensor) -> Tensor:
    return logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])


def old_rows(logits: Tensor) -> Tensor:
    return logits.transpose(1, 2).transpose(2, 3).contiguous().view(-1, logits.shape[1])


LOSSES: dict[str, Loss] = {
    "log_softmax": lambda x: F.nll_loss(F.log_softmax(x, dim=1), labels()),
    "modules": lambda x: nn.NLLLoss()(nn.LogSoftmax(1)(x), labels()),
    "2d module": lambda x: nn.NLLLoss2d(reduction="none")(nn.LogSoftmax(1)(x), labels()),
    "pixels by classes": lambda x: F.cross_entropy(rows(x), labels().reshape(-1)),
    "contiguous first": lambda x: F.cross_entropy(old_rows(x), labels().view(-1)),
    "flattened": lambda x: F.cross_entropy(x.flatten(2), labels().flatten(1)),
    "transposed": lambda x: F.cross_entropy(x.transpose(2, 3), labels().transpose(1, 2)),
    "turned, each pixel": lambda x: F.cross_entropy(x.mT, labels().mT, reduction="none"),
    "two heads": lambda x: F.cross_entropy(x, labels()) + 0.4 * F.cross_entropy(x, labels() * 0),
    "image by image": lambda x: torch.stack(
        [F.cross_entropy(x[i : i + 1], labels()[i : i + 1]) for i in range(2)]
    ),
    "one image": lambda x: F.cross_entropy(x[1].unsqueeze(0), labels()[1:]),
    "the last image": lambda x: F.cross_entropy(x[-1:], labels()[-1:]),
    "OHEM": lambda x: F.cross_entropy(x, labels(), reduction="none").flatten().topk(50)[0].mean(),
    "focal": lambda x: (
        F.cross_entropy(x, labels(), reduction="none").neg().expm1().square()
        * F.cross_entropy(x, labels(), reduction="none")
    ).mean(),
    "double": lambda x: F.cross_entropy(x.double().contiguous(), labels()),
    "ours": lambda x: ops.cross_entropy(x, labels(), ignore_index=-100),
    "ours, each pixel": lambda x: ops.cross_entropy(x, labels().int(), reduction="none"),
}
LOSSES["ours, each pixel"] = lambda x: ops.cross_entropy(
    x, labels().int(), ignore_index=-100, reduction="none"
)


LOSSES["our Dice"] = lambda x: losses.dice_loss(x, labels(), ignore_index=-100)
LOSSES["our squared Tversky of each class"] = lambda x: losses.tversky_loss(
    x, labels().int(), alpha=0.3, beta=0.7, squared=True, ignore_index=-100, reduction="none"
)
LOSSES["our Dice with cross-entropy"] = lambda x: losses.dice_cross_entropy_loss(
    x, labels(), weight=torch.arange(5) + 1.0, ignore_index=-100, convention="nnunet"
)
LOSSES["our Jaccard of half of the images"] = lambda x: losses.jaccard_loss(
    x[1:], labels()[1:], ignore_index=-100, convention="monai", log=True
)


@pytest.mark.parametrize("name", LOSSES)
def test_forms_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(with_gradient(LOSSES[name]), monkeypatch, computed=0)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accuracy_beside_the_loss(
    reduction: str, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": -100}

    def program(coarse: Tensor) -> Any:
        loss, accuracy = losses.cross_entropy(up(coarse), labels(), return_accuracy=True, **options)
        loss.sum().backward()
        return loss, accuracy, coarse.grad

    agrees(program, monkeypatch, computed=0)


COMPUTED: dict[str, Loss] = {
    "probabilities as target": lambda x: F.cross_entropy(x, x.detach().softmax(1)),
    "beside the logits": lambda x: F.cross_entropy(x, labels()) + x.mean(),
    "beside the log softmax": lambda x: (
        F.nll_loss(F.log_softmax(x, 1), labels()) + F.log_softmax(x, 1).mean()
    ),
    "label out of range": lambda x: F.cross_entropy(x, labels() + 1),
    "labels of another size": lambda x: F.cross_entropy(x, labels()[:, 1:]),
    "labels of another batch": lambda x: F.cross_entropy(x, labels()[:1]),
    "int32": lambda x: F.cross_entropy(x, labels().int()),
    "uint8": lambda x: F.cross_entropy(x, labels().clamp(min=0).byte()),
    "weights of another dtype": lambda x: F.cross_entropy(x, labels(), torch.ones(5)),
    "weights of other classes": lambda x: F.cross_entropy(x, labels(), x.new_ones(4)),
    "weights of zero": lambda x: F.cross_entropy(x, labels() * 0, x.new_zeros(5)),
    "reduction unknown": lambda x: F.cross_entropy(x, labels(), reduction="median"),
    "smoothing too large": lambda x: F.cross_entropy(x, labels(), label_smoothing=1.5),
    "classes last": lambda x: F.cross_entropy(x.permute(0, 2, 3, 1), labels()),
    "dice": lambda x: 1 - (x.softmax(1)[:, 1] * (labels() == 1)).mean(),
    "one channel": lambda x: F.binary_cross_entropy_with_logits(
        x[:, :1], labels()[:, None].double()
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_none_of_ours_is_torchs(name: str) -> None:
    plain = common.outcome(with_gradient(COMPUTED[name]), common.scores(), fused=False)
    ours = common.outcome(with_gradient(COMPUTED[name]), common.scores(), fused=True)
    common.assert_same(ours, plain)


# Numbers that are none, or of another kind: torch takes them or refuses them in its own words.
ODD = (
    *(True, 255.0, None, "a", np.int64(1), np.True_, np.array(1), torch.tensor(1), [1]),
    *(
        Fraction(1),
        2**70,
        -(2**70),
        1j,
        float("nan"),
        torch.tensor(0.1),
        np.float32(0.1),
        np.float64(0.1),
    ),
)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("name", ["ignore_index", "reduction", "label_smoothing", "weight"])
def test_odd_arguments(name: str, value: Any) -> None:
    for smoothing in (0.0, 0.1):
        options: dict[str, Any] = {"label_smoothing": smoothing, name: value}
        program = with_gradient(lambda x, options=options: F.cross_entropy(x, labels(), **options))
        plain = common.outcome(program, common.scores(), fused=False)
        ours = common.outcome(program, common.scores(), fused=True)
        common.assert_same(ours, plain)
        if isinstance(plain, Exception):
            assert str(ours) == str(plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_void_everywhere(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    void = torch.full((2, *SIZE), -100)
    loss = with_gradient(lambda x: F.cross_entropy(x, void, label_smoothing=smoothing))
    agrees(loss, monkeypatch, computed=0)


@pytest.mark.parametrize("weight", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_that_are_not_finite(weight: float, smoothing: float, reduction: str) -> None:
    """Where torch multiplies them by a loss or a gradient of zero, so do we."""

    def program(coarse: Tensor) -> Any:
        weights = torch.tensor([*CLASS_WEIGHTS[:2], weight, *CLASS_WEIGHTS[3:]]).double()
        options = {"weight": weights, "reduction": reduction}
        results = []
        for target in (labels(), labels() * 0, labels() * 0 - 100, labels().clamp(1, 2)):
            coarse.grad = None
            loss = F.cross_entropy(up(coarse), target, label_smoothing=smoothing, **options)
            loss.sum().backward()
            results += [loss, coarse.grad]
            results.append(F.nll_loss(F.log_softmax(up(coarse), 1), target, **options))
        return results

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_second_derivative(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        loss = F.cross_entropy(up(coarse), labels(), label_smoothing=smoothing)
        (first,) = torch.autograd.grad(loss, coarse, create_graph=True)
        first.square().sum().backward()
        return first, coarse.grad

    agrees(program, monkeypatch, computed=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_scores_that_are_not_finite(value: float, smoothing: float) -> None:
    """Where torch multiplies them by a weight of zero, so do we."""

    def program(coarse: Tensor) -> Any:
        with torch.no_grad():
            coarse[0, 1, 2, 3] = value
        logits = up(coarse)
        loss = F.cross_entropy(logits, labels(), reduction="none", label_smoothing=smoothing)
        loss.sum().backward()
        return loss, coarse.grad, logits.argmax(1), logits.softmax(1).max(1)

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


@pytest.mark.parametrize("factor", [float("inf"), float("nan"), 1e-300])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_incoming_gradient_that_is_not_finite(factor: float, smoothing: float) -> None:
    def program(coarse: Tensor) -> Any:
        (F.cross_entropy(up(coarse), labels(), label_smoothing=smoothing) * factor).backward()
        return coarse.grad

    plain = common.outcome(program, common.scores(), fused=False)
    common.assert_same(common.outcome(program, common.scores(), fused=True), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("autocast", [False, True])
def test_dtypes(
    dtype: torch.dtype, smoothing: float, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = up(coarse)
            loss = F.cross_entropy(logits, labels(), label_smoothing=smoothing)
        loss.backward()
        assert coarse.grad is not None
        assert loss.dtype == (torch.float32 if autocast else dtype)
        # What is rounded to half precision on the way differs in its last bits.
        return logits.dtype, loss.to(dtype), coarse.grad

    agrees(program, monkeypatch, computed=0, dtype=dtype)


def test_gradient_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        optimizer = torch.optim.SGD([coarse], lr=1.0)
        loss = F.cross_entropy(up(coarse), labels())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return coarse.detach(), scaler.get_scale()

    agrees(program, monkeypatch, computed=0, dtype=torch.float32)
