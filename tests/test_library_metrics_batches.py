"""What the metrics of other libraries count: arrays and lists of any kind, whole or not at all."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.geometry import Deconvolution
from fcn_ext.integrations import evaluate, mmsegmentation, torchmetrics
from tests.test_library_metrics import CLASSES, maps


def test_from_coarse_scores() -> None:
    """Tensors, arrays and lists of images of many sizes, by any geometry."""
    scores, target = torch.randn(2, CLASSES, 4, 5), maps()[1][:2, :16]
    expected = evaluate.MeanIoU(CLASSES)
    labels = F.interpolate(scores, (16, 13), mode="bilinear").argmax(1)
    expected.update(labels, target)
    for given in (
        (scores, target),
        (scores.numpy(), target.numpy()),
        (list(scores), list(target)),
        (labels.numpy().astype(np.uint16), target.numpy().astype(np.uint16)),
        (scores.numpy()[:1].repeat(1, 0), target.numpy()[:1]),
    ):
        metric = evaluate.MeanIoU(CLASSES)
        metric.update(*given)
        if len(given[0]) == 1:
            metric.update(scores[1:], target[1:])
        assert torch.equal(metric.counts.matrix, expected.counts.matrix)
    many = evaluate.MeanIoU(CLASSES)
    many.update([scores[0], scores[1]], [target[0], target[1, :9, :11]])
    assert many.counts.matrix.sum() == (target[0] != 255).sum() + (target[1, :9, :11] != 255).sum()
    upsampled = mmsegmentation.IoUMetric(CLASSES)
    upsampled.update(scores, target, Deconvolution(4, offset=2))
    assert upsampled.counts.matrix.sum() == (target != 255).sum()


@pytest.mark.parametrize("kind", [evaluate.MeanIoU, torchmetrics.MeanIoU])
def test_batches_of_different_length_count_nothing(kind: Any) -> None:
    prediction, target = maps(void=0)
    metric = kind(CLASSES)
    metric.update(prediction[:2], target[:2])

    def score() -> Any:
        found = copy.deepcopy(metric).compute()  # as that of evaluate starts afresh
        return found.item() if isinstance(found, Tensor) else found

    before = metric.counts.matrix, score()
    for predictions, references in (
        (prediction[:3], target[:2]),
        (prediction[:1].numpy(), target[:2].numpy()),
        (list(prediction[:3]), target[:2]),
        (torch.randn(1, CLASSES, 4, 5), target[:2]),
    ):
        message = f"must have as many images, got {len(predictions)} and 2"
        with pytest.raises(ValueError, match=message):
            metric.update(predictions, references)
    assert torch.equal(metric.counts.matrix, before[0])
    np.testing.assert_equal(score(), before[1])


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    "kind",
    [
        evaluate.MeanIoU,
        mmsegmentation.IoUMetric,
        torchmetrics.JaccardIndex,
        torchmetrics.MeanIoU,
    ],
)
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([zeros(6, 7), zeros(3, 7)], [zeros(6, 7), zeros(6, 7)]),
        ([zeros(6, 7), zeros(6, 7)], [zeros(6, 7), zeros(6, 7).float()]),
        ([zeros(6, 7), torch.zeros(CLASSES - 1, 2, 2)], [zeros(6, 7), zeros(6, 7)]),
        ([zeros(6, 7), zeros(1, 6, 7)], [zeros(6, 7), zeros(6, 7)]),
        ([zeros(6, 7), zeros(6, 7)], [zeros(6, 7), None]),
        (zeros(2, 6, 7), torch.zeros(2, 6, 7, dtype=torch.uint8, device="meta")),
    ],
    ids=["size", "dtype", "classes", "dimensions", "nothing", "device"],
)
def test_a_list_that_fails_at_its_second_image_counts_nothing(
    kind: Any, predictions: Any, references: Any
) -> None:
    for begun in (False, True):
        metric = kind(CLASSES)
        if begun:
            metric.update(zeros(1, 2, 2), zeros(1, 2, 2))
        before = repr(metric.counts)
        with pytest.raises((TypeError, ValueError)):
            metric.update(predictions, references)
        assert repr(metric.counts) == before
        assert int(metric.counts.matrix.sum()) == 4 * begun
        if kind is torchmetrics.MeanIoU and begun:
            assert metric.compute() == 1
        metric.update(zeros(1, 3, 3), zeros(1, 3, 3) + 1)
        assert int(metric.counts.matrix.sum()) == 9 + 4 * begun
        if kind is torchmetrics.MeanIoU:
            assert metric.compute() == (1 / 3 if begun else 0)


@pytest.mark.parametrize("reduce_labels", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_masked_pixels_do_not_count(reduce_labels: bool, listed: bool) -> None:
    prediction, target = (labels.numpy().astype(np.uint8) for labels in maps())
    void = target == 255
    written = np.where(void, 0, target) + np.uint8(reduce_labels)
    masked: Any = np.ma.masked_array(written, void)
    expected = evaluate.MeanIoU(CLASSES)
    expected.update(prediction, target)
    metric = evaluate.MeanIoU(CLASSES, reduce_labels=reduce_labels)
    metric.update(list(prediction) if listed else prediction, list(masked) if listed else masked)
    assert torch.equal(metric.counts.matrix, expected.counts.matrix)
    every = torchmetrics.JaccardIndex(CLASSES)  # without a void label
    every.update(prediction, np.ma.masked_array(np.where(void, 0, target), void))
    assert torch.equal(every.counts.matrix, expected.counts.matrix)
    for wrong in (np.ma.masked_array(prediction, void), np.ma.masked_equal(prediction, 1)):
        with pytest.raises(ValueError, match=r"predictions must not be masked, got \d+ masked"):
            metric.update(list(wrong) if listed else wrong, target)
    # A mask of nothing is none.
    metric.reset()
    metric.update(np.ma.masked_array(prediction, np.zeros_like(void)), masked)
    assert torch.equal(metric.counts.matrix, expected.counts.matrix)


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels.astype(np.int8),
        lambda labels: labels.astype(">i4"),
        lambda labels: labels.astype(">u2"),
        lambda labels: labels.astype(np.uint64),
        lambda labels: np.asfortranarray(labels),
        lambda labels: np.ascontiguousarray(labels[:, ::-1])[:, ::-1],
        lambda labels: np.frombuffer(labels.tobytes(), labels.dtype).reshape(labels.shape),
        lambda labels: labels.tolist(),
        lambda labels: torch.from_numpy(labels).to(torch.int8),
        lambda labels: torch.from_numpy(labels).to(torch.uint16),
        lambda labels: torch.from_numpy(labels).to(torch.uint32),
        lambda labels: np.eye(CLASSES, dtype=">f4")[labels].transpose(0, 3, 1, 2),
        lambda labels: np.eye(CLASSES)[labels].transpose(0, 3, 1, 2)[:, ::-1][:, ::-1],
    ],
)
def test_predictions_of_any_type_and_layout(change: Any) -> None:
    prediction, target = maps(void=0)
    metric, expected = evaluate.MeanIoU(CLASSES), evaluate.MeanIoU(CLASSES)
    expected.update(prediction, target)
    metric.update(change(prediction.numpy()), target)
    assert torch.equal(metric.counts.matrix, expected.counts.matrix)


def test_masks_of_two_classes() -> None:
    prediction, target = torch.tensor([[[True, False, True]]]), torch.tensor([[[1, 1, 0]]])
    for masks in (prediction, prediction.numpy()):
        metric = evaluate.MeanIoU(2)
        metric.update(masks, target)
        assert metric.counts.matrix.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("reading", ["predictions", "big-endian references", "backward references"])
def test_references_of_any_layout(reading: str) -> None:
    prediction, target = maps()
    array = target.numpy()
    given = {
        "predictions": array,
        "big-endian references": array.astype(">i2"),
        "backward references": np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1],
    }[reading]
    metric, expected = evaluate.MeanIoU(CLASSES), evaluate.MeanIoU(CLASSES)
    expected.update(prediction, target)
    metric.update(prediction, given)
    assert torch.equal(metric.counts.matrix, expected.counts.matrix)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
def test_targets_of_other_types_are_refused_reduced_or_not(dtype: torch.dtype) -> None:
    """As the operator does: int8 cannot hold 255, the void label."""
    target = torch.ones(1, 4, 4, dtype=dtype)
    for prediction in (torch.zeros(1, 4, 4).byte(), torch.zeros(1, 2, 4, 4)):
        for reduce_labels in (False, True):
            metric = evaluate.MeanIoU(2, reduce_labels=reduce_labels)
            with pytest.raises(ValueError, match="target labels must be uint8, int16"):
                metric.update(prediction, target)


@pytest.mark.parametrize("missing", ["predictions", "references"])
def test_evaluates_metric_wants_both(missing: str) -> None:
    given = {"predictions": zeros(1, 2, 2), "references": zeros(1, 2, 2), missing: None}
    with pytest.raises(TypeError, match=f"{missing} must be tensors, arrays .*, got None"):
        evaluate.MeanIoU(2).compute(**given)
    with pytest.raises(TypeError, match=f"{missing} must hold labels or scores, got .* object"):
        evaluate.MeanIoU(2).update(**{**given, missing: np.array([[[None, "a"]]])})
