"""Labels and counts straight from coarse scores."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses, ops, prediction
from fcn_ext.geometry import Resize
from fcn_ext.integrations import evaluate, torchmetrics, transformers
from fcn_ext.metrics import ConfusionMatrix

from .common import SIZE, agrees, assert_same, labels, outcome, scores, up


def counted(logits: Tensor) -> Any:
    matrix = ConfusionMatrix(5, ignore_index=-100)
    matrix.update(logits, labels())
    matrix.update_scores(logits, labels())
    return matrix.matrix, matrix.compute().mean_iu


PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: (x.argmax(1), x.argmax(dim=-3), torch.argmax(x, 1, keepdim=True)),
    "max": lambda x: (*x.max(1), *torch.max(x, dim=-3, keepdim=True)),
    "topk": lambda x: (*x.topk(1, dim=1), *torch.topk(x, 1, 1, True, False)),
    "softmax": lambda x: (x.softmax(1).argmax(1), *F.softmax(x, dim=1).max(1)),
    "softmax, topk": lambda x: (*x.softmax(1).topk(1, 1),),
    "log_softmax": lambda x: (x.log_softmax(1).argmax(1), *F.log_softmax(x, 1).max(1)),
    "classes last": lambda x: (x.permute(0, 2, 3, 1).argmax(-1), *x.movedim(1, -1).max(-1)),
    "columns first": lambda x: (x.permute(3, 1, 0, 2).argmax(1), *x.swapaxes(0, 3).topk(1, 1)),
    "pixels by classes": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 5).argmax(1),
    "flattened": lambda x: (x.flatten(2).argmax(1), *x.view(2, 5, -1).max(1)),
    "one image": lambda x: (x[0].argmax(0), *x[-1].max(0), x[0][None].argmax(1)),
    "images one by one": lambda x: [image.argmax(0) for image in (x[0], x[1])],
    "copies": lambda x: (x.clone().argmax(1), x.detach().cpu().float().argmax(1)),
    "metrics": counted,
    "operators": lambda x: (
        ops.argmax(x, SIZE),
        ops.argmax(x, SIZE, return_probability=True),
        ops.confusion_matrix(x, labels(), 5, ignore_index=-100),
        ops.score_confusion_matrix(x, labels(), ignore_index=-100),
    ),
}


def averaged(logits: Tensor) -> Any:
    windows = prediction.CoarseWindows(SIZE, average="score")
    windows.add(logits)
    windows.add(logits, flip=True, weight=0.5)
    windows.add(logits, (2, 1, 20, 25), seen_size=SIZE, importance="gaussian")
    return windows.argmax(return_probability=True), windows.confusion_matrix(labels().clamp(min=0))


def named(logits: Tensor, sizes: list[tuple[int, int]] | None) -> list[Tensor]:
    """The label maps of what a model of transformers gives."""
    outputs = SimpleNamespace(logits=logits)
    return transformers.post_process_semantic_segmentation(outputs, sizes)


PACKAGE: dict[str, Callable[[Tensor], Any]] = {
    "other sizes": lambda x: (
        ops.argmax(x, (30, 11)),
        ops.argmax(x, (9, 40), Resize(True), return_probability=True, dtype=torch.int64),
        ops.argmax(x[1:], (1, 1)),
    ),
    "sizes of each": lambda x: prediction.argmax_sizes(x, [SIZE, (50, 31)]),
    "transformers": lambda x: named(x, [(50, 31), (20, 60)]) + named(x, None),
    "masks": lambda x: prediction.masks(x, SIZE),
    "packed masks": lambda x: prediction.masks(x, SIZE, probability=0.7, packed=True),
    "cropped": lambda x: prediction.argmax_cropped(
        x, SIZE, (1, 2, 20, 21), (33, 40), return_probability=True
    ),
    "windows": averaged,
    "counts at another size": lambda x: ops.score_confusion_matrix(x, finer(), Resize(True)),
    "scores at another size": lambda x: matrix_of(x, finer()).compute().class_iu,
    "accuracy at another size": lambda x: losses.pixel_accuracy(x, finer()),
    "lists of images": lambda x: listed(x).compute()["per_category_iou"],
    "metrics of each image": lambda x: each(x).compute(),
}


def finer() -> Tensor:
    return labels(shape=(2, 40, 45)).clamp(min=0)


def matrix_of(logits: Tensor, target: Tensor) -> ConfusionMatrix:
    matrix = ConfusionMatrix(5)
    matrix.update_scores(logits, target)
    return matrix


def listed(logits: Tensor) -> Any:
    metric = evaluate.MeanIoU(5)
    metric.add_batch(predictions=list(logits), references=list(labels().clamp(min=0)))
    return metric


def each(logits: Tensor) -> Any:
    metric = torchmetrics.MeanIoU(5)
    metric.update(logits, labels().clamp(min=0))
    return metric


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("name", PACKAGE)
def test_predictions_of_this_package(
    name: str, differentiated: bool, aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.set_grad_enabled(differentiated):
            return PACKAGE[name](up(coarse, align_corners=aligned))

    agrees(program, monkeypatch, computed=0)


THRESHOLDS: dict[str, Callable[[Tensor], Any]] = {
    "logits": lambda x: (x > 0, x >= 0.25, x.lt(-0.5), torch.le(x, 1), ~(x > 2)),
    "sigmoids": lambda x: [x.sigmoid() > p for p in (0.01, 0.3, 0.5, 0.7, 0.99)],
    "other comparisons": lambda x: [f(torch.sigmoid(x), 0.4) for f in (torch.ge, torch.lt)],
    "modules": lambda x: torch.nn.Sigmoid()(x).le(0.6).float(),
    "images and views": lambda x: (x[1] > 0, x.permute(2, 0, 3, 1).sigmoid() > 0.4, x.mT < 0),
    "pixels": lambda x: (x.flatten(1) > 0, x.view(-1).sigmoid() >= 0.5),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last).sigmoid() > 0.6,
}


THRESHOLDS["rounded"] = lambda x: (
    *(x.sigmoid().round(), torch.round(x.detach().sigmoid()).long(), x[1].sigmoid().round()),
    x.contiguous(memory_format=torch.channels_last).sigmoid().round(),
)


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_masks(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(lambda coarse: THRESHOLDS[name](up(coarse)), monkeypatch, computed=0, dtype=dtype)


def test_masks_of_equal_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a score is the threshold, the comparisons part."""

    def program(coarse: Tensor) -> Any:
        logits = up((coarse * 0 + 0.5).detach())
        zero = up((coarse * 0).detach()).sigmoid()
        return (
            [f(logits, 0.5) for f in (torch.gt, torch.ge, torch.lt, torch.le)],
            [f(zero, 0.5) for f in (torch.gt, torch.ge, torch.lt, torch.le)],
            zero.round(),
        )

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("name", ["masks", "packed masks", "cropped", "windows", "other sizes"])
@pytest.mark.parametrize("kind", ["softmax", "turned", "computed", "infinite"])
def test_predictions_of_what_is_no_map_of_logits(name: str, kind: str) -> None:
    def program(coarse: Tensor) -> Any:
        if kind == "infinite":
            with torch.no_grad():
                coarse[0, 1, 2, 3] = torch.inf
        logits = up(coarse)
        if kind == "softmax":
            return PACKAGE[name](logits.softmax(1))
        if kind == "turned":
            return PACKAGE[name](up(coarse, SIZE[::-1]).mT)
        if kind == "computed":
            logits.detach().mul_(-1)
        return PACKAGE[name](logits)

    plain = outcome(program, scores(), fused=False)
    assert_same(outcome(program, scores(), fused=True), plain)


def into(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "counts of other classes": lambda x: ops.score_confusion_matrix(x, finer(), out=into((7, 7))),
    "labels of another batch": lambda x: ops.score_confusion_matrix(x, finer()[:1]),
    "labels that are no map": lambda x: ops.score_confusion_matrix(x, finer()[0]),
    "labels in floating point": lambda x: ops.score_confusion_matrix(x, finer().double()),
    "no rows": lambda x: ops.argmax(x, (0, 5)),
    "too narrow a type": lambda x: ops.argmax(x, (9, 9), dtype=torch.float32),
    "masks of no rows": lambda x: prediction.masks(x, (0, 5)),
    "a window beyond": lambda x: prediction.argmax_cropped(x, SIZE, (0, 0, 99, 1), 9),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_ordinary_logits(name: str) -> None:
    plain = outcome(lambda coarse: WRONG[name](up(coarse)), scores(), fused=False)
    ours = outcome(lambda coarse: WRONG[name](up(coarse)), scores(), fused=True)
    assert isinstance(plain, (ValueError, TypeError))
    assert (type(ours), str(ours)) == (type(plain), str(plain))


def test_probability_of_a_softmax_of_softmaxes(monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(
        lambda coarse: ops.argmax(up(coarse).softmax(1), SIZE, return_probability=True),
        monkeypatch,
        computed=1,
    )


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("differentiated", [False, True])
def test_predictions(name: str, differentiated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.set_grad_enabled(differentiated):
            return PREDICTIONS[name](up(coarse))

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 6), (3, 2, 5, 4), (1, 1, 2, 2)])
def test_values_of_winners(
    shape: tuple[int, ...], align_corners: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = torch.randn(shape, dtype=torch.float64)

    def program(_: Tensor) -> Any:
        logits = up(coarse, (shape[2] * 3 + 1, shape[3] * 2), align_corners=align_corners)
        return *logits.max(1), *logits.softmax(1).max(1)

    agrees(program, monkeypatch, computed=0 if shape[1] > 1 else 1)


COMPUTED: dict[str, Callable[[Tensor], Any]] = {
    "other dimensions": lambda x: (x.argmax(2).shape, x.max(3)[0], x.argmax(), x.amax(1)),
    "smallest": lambda x: (x.topk(1, 1, largest=False), x.argmin(1), x.topk(2, dim=1)),
    "wrong dimension": lambda x: x.argmax(4),
    "wrong number": lambda x: x.topk(6, dim=1),
    "softmax over rows": lambda x: (x.softmax(2).argmax(1), x.softmax(2).sum(2)),
    "thresholds that are none": lambda x: (x > x.mean(), x.sigmoid() > 1, x.nonzero().shape),
    "winners of sigmoids": lambda x: ((20 * x).sigmoid().argmax(1), x.sigmoid().max(1)),
    "every other image": lambda x: x[::2].argmax(1),
    "no image": lambda x: x[:0].argmax(1),
    "some classes": lambda x: (x[:, 1:].argmax(1), x[:, 1], x[:, [0, 2]].argmax(1)),
    "some rows": lambda x: (x[..., 2:].argmax(1), x[:, :, 0].argmax(1)),
    "together": lambda x: torch.cat([x, x], 1).argmax(1),
    "integers": lambda x: x.int().argmax(1),
}


@pytest.mark.parametrize("kind", ["logits", "softmax"])
@pytest.mark.parametrize("classes", [2, 5, 19, 65])
def test_topk_of_ties(classes: int, kind: str) -> None:
    """torch's ``topk`` finds any of equal classes, as those of a head that starts with zeros."""

    def program(_: Tensor) -> Any:
        coarse = torch.zeros(2, classes, 6, 7, dtype=torch.float64)
        coarse[:, classes // 2 :, :3] = 1
        coarse.requires_grad_()
        logits = up(coarse)
        elements = logits if kind == "logits" else logits.softmax(1)
        value, label = elements.topk(1, dim=1)
        value.square().sum().backward()
        return value, label, coarse.grad, elements.max(1), elements.argmax(1)

    assert_same(outcome(program, scores(), fused=True), outcome(program, scores(), fused=False))


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_none_of_ours_is_torchs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed once, for however many questions."""
    agrees(lambda coarse: COMPUTED[name](up(coarse)), monkeypatch, computed=1)


def test_gradients_of_what_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        best = logits.max(1)[0].sum() + logits.softmax(1).max(1)[0].sum()
        (best + logits.topk(1, dim=1)[0].square().sum()).backward()
        return coarse.grad

    agrees(program, monkeypatch, computed=1)
