"""torchmetrics takes labels straight from the coarse scores of deferred logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fcn_ext import fused_upsampling
from fcn_ext.deferred._snapshot import Snapshot


@pytest.mark.parametrize("name", ["MulticlassConfusionMatrix", "MulticlassJaccardIndex"])
@pytest.mark.parametrize("validated", [False, True])
def test_metrics(name: str, validated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip(
        "torchmetrics.classification", reason="torchmetrics is not installed"
    )
    scores = torch.randn(2, 5, 6, 7)
    target = torch.randint(0, 5, (2, 24, 28))
    target[:, :5] = 255

    def result() -> Any:
        metric = getattr(metrics, name)(5, ignore_index=255, validate_args=validated)
        for _ in range(2):
            metric.update(F.interpolate(scores, (24, 28), mode="bilinear"), target)
        return metric.compute()

    plain = result()

    def fail(*_: Any) -> None:
        raise AssertionError("the full tensor was computed")

    monkeypatch.setattr(Snapshot, "resized", fail)
    with fused_upsampling():
        torch.testing.assert_close(result(), plain)
