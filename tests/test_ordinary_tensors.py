"""Tensors, arrays and numbers of kinds that nobody expects, in arguments that are no scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fcn_ext.numpy as fnp
from fcn_ext import prediction
from fcn_ext.boundary import BoundaryIoU
from fcn_ext.calibration import Calibration
from fcn_ext.integrations import evaluate
from fcn_ext.integrations.mmsegmentation import IoUMetric
from fcn_ext.integrations.torchmetrics import JaccardIndex
from fcn_ext.metrics import ConfusionMatrix

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*quantized:UserWarning"),
]


def nested(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(2, 2, dtype=dtype)])


TENSORS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.zeros(2, 9, 9).to_sparse(),
    "nested": nested,
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2, 9, 9), 0.1, 0, torch.quint8),
    "meta": lambda: torch.zeros(2, 9, 9, device="meta"),
}
LABELS = np.zeros((2, 9, 9), dtype=np.uint8)
TAKERS: dict[str, Callable[[Any], Any]] = {
    "sizes": lambda value: prediction.argmax_sizes(torch.zeros(2, 3, 4, 4), value),
    "prediction": lambda value: fnp.confusion_matrix(value, LABELS, 3),
    "target": lambda value: fnp.confusion_matrix(LABELS, value, 3),
    "indices": fnp.encode_palette,
    "palette": lambda value: fnp.encode_palette(LABELS, value),
    "colors": fnp.decode_palette,
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("name", TAKERS)
def test_tensors_of_which_there_is_no_array_are_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        TAKERS[name](TENSORS[kind]())


@pytest.mark.parametrize("kind", ["sparse", "nested", "quantized"])
@pytest.mark.parametrize("name", ["predictions", "references"])
def test_batches_of_metrics_are_ordinary_tensors(name: str, kind: str) -> None:
    batch = {"predictions": torch.zeros(2, 3, 4, 4), "references": torch.zeros(2, 9, 9).byte()}
    with pytest.raises(TypeError, match=f"^{name} must be an ordinary dense tensor, got "):
        JaccardIndex(3).update(**{**batch, name: TENSORS[kind]()})


@pytest.mark.parametrize("metric", [ConfusionMatrix, Calibration, BoundaryIoU])
def test_nested_targets_of_scores_are_refused(metric: Any) -> None:
    with pytest.raises(TypeError, match=r"^target must be an ordinary dense tensor, got nested$"):
        metric(3).update_scores(torch.zeros(2, 3, 4, 4), nested())


@pytest.mark.parametrize("metric", [ConfusionMatrix, BoundaryIoU])
def test_an_array_of_one_name_is_no_list_of_names(metric: Any) -> None:
    with pytest.raises(TypeError, match=r"^class_names must be a list of names, got "):
        metric(1, class_names=np.array("road"))
    with pytest.raises(TypeError, match=r"^iou_metrics must be a list of names, got "):
        IoUMetric(1, iou_metrics=np.array("mIoU"))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [ConfusionMatrix, Calibration, BoundaryIoU])
@pytest.mark.parametrize("number", [2**70, 2**40, -(2**31)])
def test_devices_of_any_number_are_refused_by_name(metric: Any, number: int) -> None:
    with pytest.raises(ValueError, match=r"^device must be one that torch has, got "):
        metric(3, device=number)


@pytest.mark.parametrize("flag", [np.zeros(3), torch.zeros(0), torch.zeros(2), None])
def test_flags_of_metrics_are_bools(flag: Any) -> None:
    for metric in (JaccardIndex, IoUMetric, evaluate.MeanIoU):
        with pytest.raises(TypeError, match=r"^reduce_labels must be a bool, got "):
            metric(3, reduce_labels=flag)


@pytest.mark.parametrize("dtype", ["longdouble", "f8", ">f8", "f4", ">f4", "f2"])
def test_metrics_take_scores_of_any_precision(dtype: str) -> None:
    scores = np.linspace(-4, 4, 96).reshape(2, 3, 4, 4)
    references = np.arange(2 * 9 * 9).reshape(2, 9, 9) % 3
    metric, expected = JaccardIndex(3), JaccardIndex(3)
    metric.update(scores.astype(np.dtype(dtype)), references)
    expected.update(torch.from_numpy(scores), torch.from_numpy(references))
    assert torch.equal(metric.counts.matrix, expected.counts.matrix)
