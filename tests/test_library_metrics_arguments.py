"""What the metrics of other libraries' names refuse, and how they may be made and shared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from fcn_ext.integrations import evaluate, mmsegmentation, torchmetrics
from fcn_ext.metrics import scores_from_matrix

EYE = torch.eye(3, dtype=torch.int64)
LABELS = torch.arange(3, dtype=torch.uint8).repeat(1, 4, 1)

METRICS: dict[str, Callable[[], Any]] = {
    "evaluate": lambda: evaluate.MeanIoU(3),
    "mmsegmentation": lambda: mmsegmentation.IoUMetric(3),
    "jaccard": lambda: torchmetrics.JaccardIndex(3),
    "mean iou": lambda: torchmetrics.MeanIoU(3),
}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"nan_to_num": "x"}, TypeError, "nan_to_num must be a number, got 'x'"),
        ({"beta": "x"}, TypeError, "beta must be a number, got 'x'"),
        ({"beta": float("nan")}, ValueError, "beta must be >= 0, got nan"),
        ({"beta": -1}, ValueError, "beta must be >= 0, got -1"),
        ({"iou_metrics": None}, TypeError, "iou_metrics must be a list of names, got None"),
        ({"iou_metrics": 3}, TypeError, "iou_metrics must be a list of names, got 3"),
        ({"iou_metrics": "IoU"}, ValueError, "iou_metrics must be of mIoU, mDice, mFscore, got"),
        ({"iou_metrics": [np.zeros(2)]}, ValueError, "iou_metrics must be of mIoU, mDice, mF"),
    ],
)
def test_mmsegmentation_names_options_when_it_is_made(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mmsegmentation.IoUMetric(3, **options)


def test_one_metric_may_be_a_name_alone() -> None:
    for names in ("mDice", ["mDice"], iter(["mDice"])):
        assert list(mmsegmentation.class_metrics_of(EYE, names)) == ["Dice", "Acc"]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^metrics must be of mIoU, mDice, mFscore, got 'Dice'$"):
        mmsegmentation.class_metrics_of(EYE, "Dice")


@pytest.mark.parametrize("index", ["0", 1.0, True, torch.tensor(False)])
def test_an_ignored_class_must_be_an_integer(index: Any) -> None:
    with pytest.raises(TypeError, match=r"^ignore_index must be an integer, got "):
        torchmetrics.jaccard_index(EYE, ignore_index=index)


@pytest.mark.parametrize("average", [np.zeros(3), np.array(["macro", "none"]), 0, ["macro"]])
def test_averages_that_are_no_words(average: Any) -> None:
    with pytest.raises(ValueError, match=r"^average must be 'micro', .* or None, got "):
        torchmetrics.jaccard_index(EYE, average)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64])
@pytest.mark.parametrize(
    "function",
    [evaluate.metrics_of, mmsegmentation.class_metrics_of, torchmetrics.jaccard_index],
)
def test_matrices_that_hold_no_counts(function: Any, dtype: torch.dtype) -> None:
    kind = str(dtype).removeprefix("torch.")
    message = f"^matrix must hold counts, integers >= 0, got {kind} values$"
    with pytest.raises(ValueError, match=message):
        function(EYE.to(dtype))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize(
    "function",
    [
        scores_from_matrix,
        evaluate.metrics_of,
        mmsegmentation.class_metrics_of,
        torchmetrics.jaccard_index,
    ],
)
def test_negative_counts_are_refused(function: Any, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"^matrix must hold counts, integers >= 0, got -2$"):
        function(EYE.to(dtype) * 3 - 2)
    for kind in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
        assert str(function(EYE.to(kind))) == str(function(EYE))


@pytest.mark.parametrize("name", METRICS)
def test_counts_are_on_the_host_whatever_the_default_device(name: str) -> None:
    with torch.device("meta"):
        metric = METRICS[name]()
    metric.update(LABELS, LABELS)
    expected = METRICS[name]()
    expected.update(LABELS, LABELS)
    assert str(metric.compute()) == str(expected.compute())


@pytest.mark.parametrize("name", METRICS)
def test_predictions_that_are_neither_labels_nor_scores(name: str) -> None:
    metric = METRICS[name]()
    for shape in ((1, 4, 3), (1, 3, 2, 2)):
        with pytest.raises(
            TypeError, match=r"^predictions must hold labels or scores, got torch\.c"
        ):
            metric.update(torch.ones(shape, dtype=torch.complex64), LABELS)
    with pytest.raises(ValueError, match=r"^predictions must have images, got a single number$"):
        metric.update(torch.tensor(1), LABELS)
    with pytest.raises(ValueError, match=r"^references must have images, got a single number$"):
        metric.update(LABELS, np.array(1))


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_lose_no_image(num_threads: int) -> None:
    metric, start = torchmetrics.MeanIoU(3, per_class=True), threading.Barrier(num_threads)

    def work() -> None:
        start.wait()
        for _ in range(50):
            metric.update(LABELS, LABELS)

    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(work) for _ in range(num_threads)]:
            done.result()
    assert metric._sums.tolist() == [[50.0 * num_threads] * 3] * 2


@pytest.mark.parametrize("with_batch", [False, True])
def test_what_comes_while_scores_are_computed_counts_for_the_next_ones(
    with_batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """evaluate's ``compute`` starts afresh: another thread's batch is in this or the next."""
    metric, metrics_of = evaluate.MeanIoU(3), evaluate.metrics_of
    other = threading.Thread(target=lambda: metric.update(LABELS, LABELS))

    def interrupted(*args: Any) -> Any:
        other.start()
        other.join(timeout=0.2)
        return metrics_of(*args)

    monkeypatch.setattr(evaluate, "metrics_of", interrupted)
    batch = {"predictions": LABELS, "references": LABELS}
    if not with_batch:
        metric.update(LABELS, LABELS)
    metric.compute(**(batch if with_batch else {}))
    other.join()
    assert int(metric.counts.matrix.sum()) == LABELS.numel()
