"""An exported file that gives something else than the network is found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_train.errors import ExportError
from fcn_train.export.check import SIZES, Trial, compare, trials
from fcn_train.export_options import Output

from .runs import untrained

LOGITS = torch.tensor([3.0, 1.0, -4.0]).reshape(1, 3, 1, 1).repeat(1, 1, 2, 5)


def compared(made: Tensor, output: Output, logits: Tensor = LOGITS) -> Any:
    return compare([[made]], [Trial(torch.zeros(1), [logits])], output)


def test_trials_cover_odd_sizes_and_batches() -> None:
    found = trials(untrained("fcn-pool3"), "uint8")
    assert [(len(t.images), *t.images.shape[2:]) for t in found] == list(SIZES)
    assert {t.images.dtype for t in found} == {torch.uint8}
    assert {size[0] for size in SIZES} == {1, 2}
    assert any(size[1] % 2 and size[2] % 2 for size in SIZES)


def test_equal_outputs_agree() -> None:
    assert compared(LOGITS, "logits").difference == 0
    assert compared(LOGITS.softmax(1), "probabilities").difference == 0
    assert compared(LOGITS.argmax(1), "labels") == (10, 0, 0.0)


def test_rounding_agrees_and_is_told() -> None:
    assert compared(LOGITS + 1e-5, "logits").difference == pytest.approx(1e-5 / 4, rel=0.1)
    zeros = torch.zeros(1, 3, 4, 4)
    assert compared(zeros + 1e-5, "logits", zeros).difference == pytest.approx(1e-5)


def test_ties_may_go_either_way_and_are_counted() -> None:
    near = LOGITS.clone()
    near[:, 1, 0] = 3 - 1e-5
    labels = near.argmax(1)
    labels[:, 0, :2] = 1
    agreement = compared(labels, "labels", near)
    assert (agreement.pixels, agreement.ties) == (10, 2)
    assert str(agreement) == "labels of 10 pixels in 3 sizes are the network's, but for 2 ties"


@pytest.mark.parametrize(
    ("made", "output", "message"),
    [
        (LOGITS + 0.01, "logits", "its logits differ by 2.5e-03, more than 1.0e-04, for 1 image"),
        (LOGITS * torch.nan, "logits", "its logits differ by nan"),
        (LOGITS[:, :, :, :4], "logits", r"have shape \(1, 3, 2, 4\), not \(1, 3, 2, 5\)"),
        ((LOGITS * 1.1).softmax(1), "probabilities", "its probabilities differ by"),
        (LOGITS.argmin(1), "labels", "10 of 10 labels differ for 1 image of 2 x 5 pixels"),
        (LOGITS.argmin(1) + 1, "labels", "it gives label 3 of 3 classes"),
        (LOGITS.argmax(1)[:, None], "labels", "its labels have shape"),
    ],
)
def test_differences_are_refused(made: Tensor, output: Output, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        compared(made, output)


def test_a_network_that_diverged_is_named() -> None:
    run = untrained("fcn-pool3")
    with torch.no_grad():
        run.model.score_pool3.bias.fill_(torch.inf)
    with pytest.raises(ExportError, match="run: its network gives scores that are not finite"):
        trials(run, "normalized")
