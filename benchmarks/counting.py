"""Implementations of counting: from labels or full-size scores and a target to a matrix."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fcn_ext.numpy
from benchmarks.workloads import Workload
from fcn_ext import ops, reference


def project_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return ops.confusion_matrix(prediction, target, n, ignore_index=ignore_index)


def project_confusion_numpy(w: Workload, prediction: Tensor, target: Tensor) -> npt.NDArray[Any]:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return fcn_ext.numpy.confusion_matrix(prediction.numpy(), target.numpy(), n, ignore_index)


def plain_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return reference.confusion_matrix(prediction, target, n, ignore_index=ignore_index)[0]


def mask_bincount(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n = w.case.num_classes
    prediction, target = prediction.flatten(), target.flatten()
    mask = (target >= 0) & (target < n)
    if w.case.ignore_index in range(n):
        mask &= target != w.case.ignore_index
    index = n * target[mask].long() + prediction[mask].long()
    return torch.bincount(index, minlength=n * n).reshape(n, n)


def where_bincount(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n = w.case.num_classes
    prediction, target = prediction.flatten().long(), target.flatten().long()
    index = torch.where(target == w.case.ignore_index, n * n, n * target + prediction)
    return torch.bincount(index, minlength=n * n + 1)[:-1].reshape(n, n)


def mask_bincount_numpy(w: Workload, prediction: Tensor, target: Tensor) -> npt.NDArray[Any]:
    n = w.case.num_classes
    p, t = prediction.numpy().ravel(), target.numpy().ravel()
    mask = (t >= 0) & (t < n)
    index = n * t[mask].astype(np.int64, copy=False) + p[mask]
    return np.bincount(index, minlength=n * n).reshape(n, n)


def torchmetrics_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Any:
    functional = importlib.import_module("torchmetrics.functional.classification")
    return functional.multiclass_confusion_matrix(
        prediction.long(),
        target.long(),
        w.case.num_classes,
        ignore_index=w.case.ignore_index,
        validate_args=False,
    )


def argmax_mask_bincount(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return mask_bincount(w, scores.argmax(dim=1), target)


def argmax_where_bincount(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return where_bincount(w, scores.argmax(dim=1), target)
