"""How far results are from the truth, which is shown beside every speed."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.head_accuracy import HeadAccuracy
from benchmarks.implementations import SPECIFICATION, Implementation
from benchmarks.prediction_accuracy import PredictionAccuracy
from benchmarks.workloads import Function, Workload

# Largest error a result may have, relative to the largest true value (at least 1).
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


class Accuracy:
    """Compares the results of one row with float64 truths, or with exact counts."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._truths: dict[Function, Any] = {}
        self._head = HeadAccuracy(workload)
        self._prediction = PredictionAccuracy(workload)

    def check(self, implementation: Implementation, result: Any) -> dict[str, Any]:
        """{"max_error", "correct"} for maps, {"wrong_counts", "correct"} for counts; for the heads
        see :meth:`HeadAccuracy.check`, for predictions :meth:`PredictionAccuracy.check`."""
        row = self._workload.row
        if row.head:
            return self._head.check(implementation, result)
        if row.prediction:
            return self._prediction.check(implementation, result)
        specification = SPECIFICATION[row.operator.removesuffix("_backward")]
        if row.operator.startswith("confusion_matrix"):
            truth = self._truth(specification, lambda f: f(self._workload, *self._workload.maps))
            wrong = int((torch.as_tensor(result).cpu() != truth.cpu()).sum())
            return {"wrong_counts": wrong, "correct": wrong == 0}
        function = implementation.function if implementation.truth == "itself" else specification
        truth = self._truth(function, self._workload.truth)
        pairs = list(zip(self._workload.checked(result), truth, strict=True))
        error = float(torch.stack([(a.double() - t).abs().max() for a, t in pairs]).max())
        scale = float(torch.stack([t.abs().max() for _, t in pairs]).max())
        # A NaN anywhere is above every tolerance.
        correct = error <= TOLERANCE[row.variant.dtype] * max(1.0, scale)
        return {"max_error": error, "correct": correct}

    def _truth(self, function: Function, compute: Any) -> Any:
        if function not in self._truths:
            self._truths[function] = compute(function)
        return self._truths[function]
