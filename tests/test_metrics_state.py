"""What changes a confusion matrix, and what does not: refusals, readings, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fcn_ext.boundary import BoundaryIoU
from fcn_ext.calibration import Calibration
from fcn_ext.integrations import evaluate, mmsegmentation, torchmetrics
from fcn_ext.integrations.evaluate import metrics_of
from fcn_ext.integrations.torchmetrics import jaccard_index
from fcn_ext.metrics import ConfusionMatrix, scores_from_matrix

LABELS = torch.arange(3, dtype=torch.uint8).repeat(1, 4, 1)
SCORES = torch.zeros(1, 3, 2, 2)
ELSEWHERE = torch.zeros(1, 4, 3, dtype=torch.uint8, device="meta")


REFUSED: dict[str, tuple[Callable[[ConfusionMatrix], None], str]] = {
    "shapes": (lambda m: m.update(LABELS, LABELS[:, :2]), "must have the same shape"),
    "dtype": (lambda m: m.update(LABELS, LABELS.float()), "target labels must be uint8"),
    "two devices": (lambda m: m.update(LABELS, ELSEWHERE), "must be on the same device"),
    "logits": (lambda m: m.update(torch.zeros(1, 2, 4, 3), LABELS), "must have num_classes = 3"),
    "no target": (lambda m: m.update(LABELS, None), "target must be a torch.Tensor"),
    "no scores": (lambda m: m.update_scores(None, LABELS), "scores must be a torch.Tensor"),
    "classes": (
        lambda m: m.update_scores(SCORES[:, :2], LABELS),
        r"scores must have num_classes = 3 channels, got \(1, 2, 2, 2\)",
    ),
    "batch": (lambda m: m.update_scores(SCORES, LABELS.repeat(2, 1, 1)), "batch size of scores"),
    "geometry": (lambda m: m.update_scores(SCORES, LABELS, 8), "geometry must be"),
    "offset": (lambda m: m.update_upsampled(SCORES, LABELS, 4, offset=99), "offset must be below"),
    "corners": (
        lambda m: m.update_interpolated(SCORES, LABELS, align_corners=1),
        "align_corners must be a bool",
    ),
    "on_invalid": (lambda m: m.compute(on_invalid="hope"), "on_invalid must be"),
}


READINGS: dict[str, Callable[[ConfusionMatrix], object]] = {
    "matrix": lambda m: m.matrix.add_(1),
    "invalid": lambda m: m.invalid.add_(1),
    "compute": lambda m: m.compute(),
    "repr": repr,
    "reset": lambda m: m.reset(),
    "all_reduce": lambda m: m.all_reduce(),
    "copy": copy.deepcopy,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_call_changes_nothing(reason: str, begun: bool, together: bool) -> None:
    """Nor do those before it that were to count with it or not at all."""
    matrix = ConfusionMatrix(3)
    if begun:
        matrix.update(LABELS, LABELS)
    refused, message = REFUSED[reason]

    def call() -> None:
        if not together:
            return refused(matrix)
        with matrix.all_or_nothing():
            matrix.update(LABELS, LABELS + 7)
            matrix.reset()
            matrix.update_scores(SCORES, LABELS)
            refused(matrix)

    before = (repr(matrix), matrix.matrix, matrix.invalid)
    with pytest.raises((TypeError, ValueError), match=message):
        call()
    assert repr(matrix) == before[0]
    assert torch.equal(matrix.matrix, before[1])
    assert torch.equal(matrix.invalid, before[2])
    with matrix.all_or_nothing():
        matrix.update(LABELS, LABELS)
    assert torch.equal(matrix.matrix, before[1] + torch.diag(torch.tensor([4, 4, 4])))


@pytest.mark.parametrize("reading", READINGS)
def test_reading_binds_no_device_and_changes_no_count(reading: str) -> None:
    matrix = ConfusionMatrix(3)
    assert repr(matrix) == "ConfusionMatrix(num_classes=3, ignore_index=255, device=None)"
    READINGS[reading](matrix)
    assert "device=None" in repr(matrix)
    assert int(matrix.matrix.sum()) == 0
    # A device that is not the host stands for a GPU: the first update still decides.
    matrix.update(ELSEWHERE, ELSEWHERE)
    assert matrix.matrix.device.type == "meta"
    if reading != "reset":
        begun = ConfusionMatrix(3)
        begun.update(LABELS, LABELS)
        READINGS[reading](begun)
        assert begun.matrix.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
        assert int(begun.invalid) == 0


@pytest.mark.parametrize("kind", [ConfusionMatrix, BoundaryIoU, Calibration])
def test_what_is_no_device_is_refused_by_name(kind: Any) -> None:
    for wrong in (3.5, True, ["cpu"], LABELS):
        with pytest.raises(TypeError, match=r"^device must be a torch.device or its name, got "):
            kind(3, device=wrong)
    for unknown in ("gpu", "", "cpu:x", -1):
        with pytest.raises(ValueError, match=r"^device must be one that torch has, got [^\n]+: "):
            kind(3, device=unknown)
    for known in ("cpu", torch.device("cpu"), "meta", None):
        kind(3, device=known).update_scores(*(t.to(known) for t in (SCORES, LABELS)))


@pytest.mark.parametrize("kind", [ConfusionMatrix, BoundaryIoU])
def test_a_batch_on_another_device_than_the_counts_is_refused(kind: Any) -> None:
    """By these names: there is no argument for the counts."""
    message = "^target and the counts must be on the same device, got meta and cpu$"
    for metric in (kind(3, device="cpu"), kind(3)):
        metric.update(LABELS, LABELS)
        with pytest.raises(ValueError, match=message):
            metric.update(ELSEWHERE, ELSEWHERE)
        with pytest.raises(ValueError, match=message):
            metric.update_scores(SCORES.to("meta"), LABELS.to("meta"))


def test_a_device_that_was_asked_for_stays() -> None:
    matrix = ConfusionMatrix(3, device="cpu")
    with pytest.raises(ValueError, match="same device, got meta and cpu"):
        matrix.update(ELSEWHERE, ELSEWHERE)
    matrix.reset()
    assert "device='cpu'" in repr(matrix)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_copies_go_on_by_themselves(
    again: Callable[[ConfusionMatrix], ConfusionMatrix], begun: bool
) -> None:
    matrix = ConfusionMatrix(3, ignore_index=1, class_names=["a", "b", "c"])
    if begun:
        matrix.update(LABELS, LABELS)
    with torch.inference_mode():
        copied = again(matrix)
    assert repr(copied) == repr(matrix)
    assert copied.class_names == ("a", "b", "c")
    copied.update(LABELS, LABELS)
    assert matrix.compute().num_pixels == 8 * begun
    assert copied.compute().num_pixels == 8 * (1 + begun)
    copied.reset()
    assert matrix.compute().num_pixels == 8 * begun


METRICS: dict[str, tuple[Any, str]] = {
    "ConfusionMatrix": (ConfusionMatrix, "update_scores"),
    "BoundaryIoU": (BoundaryIoU, "update_scores"),
    "Calibration": (Calibration, "update_scores"),
    "evaluate": (evaluate.MeanIoU, "update"),
    "mmsegmentation": (mmsegmentation.IoUMetric, "update"),
    "torchmetrics Jaccard": (torchmetrics.JaccardIndex, "update"),
    "torchmetrics mean IoU": (torchmetrics.MeanIoU, "update"),
}


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("name", METRICS)
def test_a_copy_of_any_metric_counts_by_itself(name: str, again: Callable[[Any], Any]) -> None:

    def scores(metric: Any) -> str:
        return str(copy.deepcopy(metric).compute())  # that of evaluate forgets what it has computed

    kind, update = METRICS[name]
    right = torch.nn.functional.one_hot(LABELS.long(), 3).movedim(3, 1).float()
    metric = kind(3)
    getattr(metric, update)(right, LABELS)
    copied, before = again(metric), scores(metric)
    assert scores(copied) == before
    getattr(copied, update)(-right, LABELS)
    assert scores(metric) == before
    assert scores(copied) != before
    metric.reset()
    getattr(metric, update)(right, LABELS)
    assert scores(metric) == before


def test_counts_begun_in_inference_mode_are_counts() -> None:
    labels = torch.zeros(1, 2, 3, dtype=torch.uint8)
    matrix = ConfusionMatrix(2)
    with torch.inference_mode():
        matrix.update(labels, labels)
    matrix.update(labels, labels)
    assert matrix.compute().num_pixels == 12
    matrix.reset()
    assert matrix.compute().num_pixels == 0


@pytest.mark.parametrize("kind", [ConfusionMatrix, BoundaryIoU, Calibration])
@pytest.mark.parametrize("on_invalid", ["raise", "drop"])
def test_no_scores_of_labels_without_values(kind: Any, on_invalid: str) -> None:
    metric = kind(3)
    metric.update_scores(SCORES.to("meta"), LABELS.to("meta"))
    with pytest.raises(ValueError, match=r"^labels must have values, got a tensor on the meta dev"):
        metric.compute(on_invalid=on_invalid)


@pytest.mark.parametrize("function", [scores_from_matrix, metrics_of, jaccard_index])
def test_no_scores_of_a_matrix_without_values(function: Any) -> None:
    matrix = torch.zeros(3, 3, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match=r"^matrix must have values, got a tensor on the meta dev"):
        function(matrix)
