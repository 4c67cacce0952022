"""The dictionaries of other libraries' metrics, against the libraries' formulas written out."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext.integrations import evaluate, mmsegmentation, torchmetrics

CLASSES = 6


def maps(void: int = 255, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels and target of five images. Class 4 is never predicted, class 3 is absent from the
    target, class 5 is neither."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, 4, (5, 17, 13), generator=generator)
    target = torch.randint(0, 5, (5, 17, 13), generator=generator)
    target[target == 3] = 4
    target[:, :3, :4] = void
    target[1] = void
    return prediction, target


def areas(prediction: Tensor, target: Tensor, void: int) -> tuple[np.ndarray, ...]:
    """Pixels of both, of either, predicted and of the target, by a loop over the classes."""
    counted = target != void
    found = []
    for index in range(CLASSES):
        p, t = (prediction == index) & counted, (target == index) & counted
        found.append([(p & t).sum(), (p | t).sum(), p.sum(), t.sum()])
    return tuple(np.array(found, dtype=np.float64).T)


def test_evaluate() -> None:
    prediction, target = maps()
    both, either, _, of_target = areas(prediction, target, 255)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = both / either, both / of_target
    for filled in (None, 0.0, -1):
        metric = evaluate.MeanIoU(CLASSES, nan_to_num=filled)
        metric.add_batch(predictions=prediction.numpy(), references=target.numpy())
        found = metric.compute()
        expected = iou if filled is None else np.nan_to_num(iou, nan=filled)
        np.testing.assert_array_equal(found["per_category_iou"], expected)
        expected = accuracy if filled is None else np.nan_to_num(accuracy, nan=filled)
        np.testing.assert_array_equal(found["per_category_accuracy"], expected)
        # The means are taken before anything is filled in.
        assert found["mean_iou"] == pytest.approx(np.nanmean(iou), rel=1e-15)
        assert found["mean_accuracy"] == pytest.approx(np.nanmean(accuracy), rel=1e-15)
        assert found["overall_accuracy"] == both.sum() / of_target.sum()
    assert math.isnan(iou[5])
    assert math.isnan(accuracy[3])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_reduced_labels(dtype: torch.dtype) -> None:
    """0 and 255 are void, and every other label is the class below."""
    prediction, classes = maps()
    written = torch.where(classes == 255, 0, classes + 1)
    written[2, 5:9] = 255
    classes[2, 5:9] = 255
    for kind in (evaluate.MeanIoU, mmsegmentation.IoUMetric, torchmetrics.JaccardIndex):
        metric = kind(CLASSES, reduce_labels=True, ignore_index=255)  # type: ignore[operator]
        metric.update(prediction, written.to(dtype))
        expected = kind(CLASSES, ignore_index=255)  # type: ignore[operator]
        expected.update(prediction, classes)
        assert torch.equal(metric.counts.matrix, expected.counts.matrix)
        assert metric.counts.matrix.sum() == (classes != 255).sum()


@pytest.mark.parametrize(
    ("dtype", "ignored"), [(torch.uint8, None), (torch.int64, None), (torch.int16, 255)]
)
def test_reduced_labels_have_a_void_without_being_told(dtype: torch.dtype, ignored: Any) -> None:
    prediction, classes = maps()
    written = torch.where(classes == 255, 0, classes + 1).to(dtype)
    found, expected = (
        torchmetrics.JaccardIndex(CLASSES, ignore_index=ignored, reduce_labels=True),
        torchmetrics.JaccardIndex(CLASSES, ignore_index=255),
    )
    found.update(prediction, written)
    expected.update(prediction, classes)
    assert torch.equal(found.compute(), expected.compute())


def mmseg(prediction: Tensor, target: Tensor, filled: float | None, beta: float) -> Any:
    both, either, predicted, of_target = areas(prediction, target, 255)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = both / predicted, both / of_target
        classes = {
            "IoU": both / either,
            "Acc": recall,
            "Dice": 2 * both / (predicted + of_target),
            "Fscore": (1 + beta**2) * precision * recall / (beta**2 * precision + recall),
            "Precision": precision,
            "Recall": recall,
        }
    if filled is not None:
        classes = {name: np.nan_to_num(values, nan=filled) for name, values in classes.items()}
    summary = {"aAcc": np.round(100 * both.sum() / of_target.sum(), 2)}
    for name, values in classes.items():
        summary[f"m{name}"] = np.round(100 * np.nanmean(values), 2)
    return summary, classes


@pytest.mark.parametrize("filled", [None, 0])
@pytest.mark.parametrize("beta", [1, 2])
def test_mmsegmentation(filled: float | None, beta: float) -> None:
    prediction, target = maps()
    metric = mmsegmentation.IoUMetric(
        CLASSES, iou_metrics=("mIoU", "mDice", "mFscore"), nan_to_num=filled, beta=beta
    )
    for index in range(5):
        metric.update(prediction[index], target[index])
    summary, classes = mmseg(prediction, target, filled, beta)
    assert metric.compute() == pytest.approx(summary, abs=1e-9)
    assert list(metric.compute()) == list(summary)
    for name, values in metric.per_class().items():
        np.testing.assert_allclose(values, np.round(100 * classes[name], 2), atol=1e-9)
    alone = mmsegmentation.IoUMetric(CLASSES, iou_metrics="mDice")
    alone.update(prediction, target)
    assert list(alone.compute()) == ["aAcc", "mDice", "mAcc"]


@pytest.mark.parametrize("zero", [0.0, 1.0])
@pytest.mark.parametrize("ignored", [None, 2, 255])
def test_jaccard_index(ignored: int | None, zero: float) -> None:
    prediction, target = maps(void=0)
    void = -1 if ignored is None else ignored
    both, either, predicted, of_target = areas(prediction, target, void)
    index = np.where(either > 0, both / np.maximum(either, 1), zero)
    present = (predicted + of_target > 0).astype(float)
    union = either.sum()
    if ignored == 2:
        present[2] = 0
        union -= either[2]
    expected = {
        "none": index,
        "macro": (present * index).sum() / present.sum(),
        "weighted": (of_target * index).sum() / of_target.sum(),
        "micro": both.sum() / union,
    }
    for average, value in expected.items():
        metric = torchmetrics.JaccardIndex(
            CLASSES,
            average=average,  # type: ignore[arg-type]
            ignore_index=ignored,
            zero_division=zero,
        )
        metric.update(prediction, target)
        np.testing.assert_allclose(metric.compute().numpy(), value, rtol=1e-14)


@pytest.mark.parametrize("background", [True, False])
def test_mean_iou_of_images(background: bool) -> None:
    prediction, target = maps(void=0)
    first = 0 if background else 1
    values: list[list[float]] = [[] for _ in range(CLASSES)]
    for image, labels in zip(prediction, target, strict=True):
        both, either, _, _ = areas(image, labels, -1)
        for index in range(first, CLASSES):
            if either[index]:
                values[index].append(both[index] / either[index])
    options = {"include_background": background}
    mean = torchmetrics.MeanIoU(CLASSES, **options)
    each = torchmetrics.MeanIoU(CLASSES, **options, per_class=True)
    for metric in (mean, each):
        metric.update(prediction[:2], target[:2])
        metric.update(list(prediction[2:]), list(target[2:]))
    assert mean.compute().item() == pytest.approx(np.mean(np.concatenate(values)))
    of_classes = [np.mean(of) if of else -1 for of in values[first:]]
    np.testing.assert_allclose(each.compute().numpy(), of_classes)
    mean.reset()
    assert mean.compute().isnan()


def test_trainers_callable() -> None:
    scores, target = torch.randn(4, CLASSES, 4, 5), maps()[1][:4]
    expected = evaluate.MeanIoU(CLASSES).compute(predictions=scores, references=target)
    whole = SimpleNamespace(predictions=(scores.numpy(), None), label_ids=target.numpy())
    function = evaluate.compute_metrics(CLASSES)
    for _ in range(2):  # it begins anew each time
        found = function(whole)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    named = evaluate.compute_metrics(CLASSES, id2label=dict(enumerate("abcdef")))
    for part in (slice(0, 3), slice(3, 4)):
        batch = SimpleNamespace(predictions=scores[part], label_ids=target[part])
        found = named(batch, compute_result=part.stop == 4)
        assert (found == {}) == (part.stop == 3)
    assert found["mean_iou"] == expected["mean_iou"]
    assert found["iou_b"] == expected["per_category_iou"][1]
    assert found["accuracy_a"] == expected["per_category_accuracy"][0]
    assert len(found) == 3 + 2 * CLASSES


@pytest.mark.parametrize("among_others", [False, True])
@pytest.mark.parametrize("is_array", [False, True])
def test_trainers_list_of_batches(among_others: bool, is_array: bool) -> None:
    """With eval_do_concat_batches=False: batches of several lengths and sizes, as many as images
    in one of them, scores alone or before other outputs."""
    sizes = [(2, 4, 5), (1, 8, 3), (2, 5, 5)][: 3 if is_array else 2]
    scores = [torch.randn(n, CLASSES, h, w) for n, h, w in sizes]
    labels = [torch.randint(0, CLASSES, (n, 2 * h, 2 * w)) for n, h, w in sizes]
    expected = evaluate.MeanIoU(CLASSES)
    for batch in zip(scores, labels, strict=True):
        expected.update(*batch)
    given: list[Any] = [s.numpy() if is_array else s for s in scores]
    if among_others:
        given = [(s, None) for s in given]
    outcome = SimpleNamespace(
        predictions=given, label_ids=[t.numpy() if is_array else t for t in labels]
    )
    function = evaluate.compute_metrics(CLASSES)
    assert function(outcome)["mean_iou"] == expected.compute()["mean_iou"]
    outcome.label_ids = outcome.label_ids[1:]
    with pytest.raises(ValueError, match=r"predictions and label_ids must have as many batches"):
        function(outcome)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda target: torch.full_like(target, 77), "got 221 pixels that are not"),
        (lambda target: target.float(), "must be uint8"),
    ],
)
def test_what_fails_spoils_one_evaluation(wrong: Any, message: str) -> None:
    """In its last batch, or before."""
    scores, target = torch.randn(1, CLASSES, 4, 5), maps()[1][:1]
    expected = evaluate.MeanIoU(CLASSES).compute(predictions=scores, references=target)
    function = evaluate.compute_metrics(CLASSES)
    assert function(SimpleNamespace(predictions=-scores, label_ids=target), False) == {}
    with pytest.raises(ValueError, match=message):
        function(SimpleNamespace(predictions=scores, label_ids=wrong(target)))
    found = function(SimpleNamespace(predictions=scores, label_ids=target))
    assert found["mean_iou"] == expected["mean_iou"]


def test_evaluates_metric_starts_afresh() -> None:
    """As ``evaluate``'s does: a loop over epochs has the numbers of one each time."""
    right = np.zeros((1, 2, 2), np.uint8)
    metric = evaluate.MeanIoU(2)
    metric.add_batch(predictions=right + 1, references=right)
    assert metric.compute()["overall_accuracy"] == 0
    metric.add_batch(predictions=right, references=right)
    metric.add(prediction=right[0] + 1, reference=right[0])
    assert metric.compute()["overall_accuracy"] == 0.5
    assert metric.compute(predictions=right, references=right)["overall_accuracy"] == 1
    assert math.isnan(metric.compute()["overall_accuracy"])
    # Labels out of range stay until they are forgotten.
    metric.add_batch(predictions=right, references=right + 7)
    for _ in range(2):
        with pytest.raises(ValueError, match="got 4 pixels that are not"):
            metric.compute()
    metric.reset()
    assert metric.compute(predictions=right, references=right)["overall_accuracy"] == 1


@pytest.mark.parametrize("shape", [(3, 4), (3,), (2, 3, 3)])
def test_matrices_that_are_not_square(shape: tuple[int, ...]) -> None:
    matrix = torch.ones(shape, dtype=torch.int64)
    for function in (
        evaluate.metrics_of,
        mmsegmentation.class_metrics_of,
        torchmetrics.jaccard_index,
    ):
        with pytest.raises(ValueError, match=r"matrix must be square .*, got \(") as caught:
            function(matrix)
        assert str(shape) in str(caught.value)


def test_nothing_and_void_everywhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for update in (False, True):
            hugging_face, mm = evaluate.MeanIoU(CLASSES), mmsegmentation.IoUMetric(CLASSES)
            jaccard = torchmetrics.JaccardIndex(CLASSES, ignore_index=255)
            for metric in (hugging_face, mm, jaccard) if update else ():
                metric.update(torch.zeros(1, 1, 1).byte(), torch.full((1, 1, 1), 255))
            assert math.isnan(hugging_face.compute()["mean_iou"])
            assert math.isnan(mm.compute()["aAcc"])
            assert jaccard.compute().isnan()


def test_processes_are_summed(tmp_path: Path) -> None:
    prediction, target = maps(void=0)
    metric = torchmetrics.MeanIoU(CLASSES)
    metric.update(prediction, target)
    expected = metric.compute()
    metric.all_reduce()  # without a group nothing is done
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/r", rank=0, world_size=1)
    try:
        metric.all_reduce()
    finally:
        dist.destroy_process_group()
    assert metric.compute() == expected


ONE = torch.zeros(1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate.MeanIoU(0), ValueError, r"num_labels must be in \[1, 32768\], got 0"),
        (lambda: evaluate.MeanIoU("a"), TypeError, "num_labels must be an integer, got 'a'"),
        (lambda: evaluate.MeanIoU(2, nan_to_num="a"), TypeError, "nan_to_num must be a number"),
        (lambda: evaluate.MeanIoU(2, nan_to_num=True), TypeError, "nan_to_num must be a number"),
        (lambda: evaluate.metrics_of(None), TypeError, r"matrix must be a torch\.Tensor, got None"),
        (lambda: evaluate.metrics_of(np.eye(2)), TypeError, r"matrix must be a torch\.Tensor, got"),
        (
            lambda: evaluate.metrics_of(torch.eye(2), nan_to_num="x"),
            TypeError,
            "nan_to_num must be a number, got 'x'",
        ),
        (
            lambda: evaluate.compute_metrics(2, id2label={0: "a", 5: "b"}),
            ValueError,
            r"id2label must have numbers in \[0, num_labels\) = \[0, 2\), got 5",
        ),
        (
            lambda: evaluate.compute_metrics(2, id2label={"0": "a"}),
            TypeError,
            "id2label must be an integer, got '0'",
        ),
        (
            lambda: evaluate.compute_metrics(2, id2label=["a", "b"]),
            TypeError,
            "id2label must be a dict of names by number, got",
        ),
        (lambda: evaluate.MeanIoU(2, reduce_labels=1), TypeError, "reduce_labels must be a bool"),
        (
            lambda: evaluate.MeanIoU(2).compute(predictions=ONE, references=ONE + 7),
            ValueError,
            "got 4 pixels that are not",
        ),
        (
            lambda: evaluate.MeanIoU(2).update([ONE[0]], [ONE[0], ONE[0]]),
            ValueError,
            "predictions and references must have as many images, got 1 and 2",
        ),
        (
            lambda: mmsegmentation.IoUMetric(2, iou_metrics=["IoU"]),
            ValueError,
            "metrics must be of mIoU, mDice, mFscore, got 'IoU'",
        ),
        (
            lambda: torchmetrics.JaccardIndex(2, average="mean"),  # type: ignore[arg-type]
            ValueError,
            "average must be 'micro', 'macro', 'weighted', 'none' or None, got 'mean'",
        ),
        (
            lambda: torchmetrics.MeanIoU(2, per_class=None),  # type: ignore[arg-type]
            TypeError,
            "per_class must be a bool, got None",
        ),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
