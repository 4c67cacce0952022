"""The reliability table, against a loop over bins in float64."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.boundary import BoundaryIoU
from fcn_ext.calibration import Calibration, Reliability
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.metrics import ConfusionMatrix
from tests.ops.heads import LABEL_TYPES


def plain(
    prediction: Tensor, probability: Tensor, target: Tensor, num_bins: int, void: int = 255
) -> dict[str, Any]:
    valid = target != void
    sure = probability[valid].double().numpy()
    right = (prediction == target)[valid].numpy()
    count, confidence, accuracy = [], [], []
    for bin in range(num_bins):
        low, high = bin / num_bins, (bin + 1) / num_bins
        inside = (sure <= high) & ((sure > low) | (bin == 0))
        count.append(int(inside.sum()))
        confidence.append(sure[inside].mean() if count[-1] else math.nan)
        accuracy.append(right[inside].mean() if count[-1] else math.nan)
    gap = np.abs(np.subtract(accuracy, confidence))
    share = np.array(count) / sum(count)
    return {
        "count": count,
        "confidence": confidence,
        "accuracy": accuracy,
        "expected_calibration_error": np.nansum(share * gap),
        "maximum_calibration_error": np.nanmax(gap),
    }


def assert_matches(table: Reliability, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(table, name), value, rtol=0, atol=1e-9)
    assert np.array_equal(table.count, expected["count"])
    assert table.num_pixels == sum(expected["count"])


@pytest.mark.parametrize("geometry", [Resize(), Deconvolution(8, offset=4)])
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_equals_a_loop_over_bins(geometry: Geometry, num_bins: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 7, 9, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 5, (3, 50, 61), generator=generator)
    target[target == 4] = 255
    full = reference.at_full_size(scores, (50, 61), geometry)
    probability, labels = full.softmax(1).max(1)
    expected = plain(labels, probability, target, num_bins)
    calibration = Calibration(4, num_bins=num_bins)
    for image in range(3):
        one = slice(image, image + 1)
        calibration.update_scores(scores[one].to(device), target[one].to(device), geometry)
    assert_matches(calibration.compute(), expected)
    whole = Calibration(4, num_bins=num_bins)
    found = ops.argmax(scores.to(device), (50, 61), geometry, return_probability=True)
    whole.update(*found, target.to(device))
    for name in ("count", "confidence", "accuracy"):  # to the last bit
        np.testing.assert_array_equal(
            getattr(whole.compute(), name), getattr(calibration.compute(), name)
        )


@pytest.mark.parametrize("dtype", LABEL_TYPES)
def test_edges_belong_to_the_bin_below(dtype: torch.dtype) -> None:
    for sure in (torch.float64, torch.float32):
        probability = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0, 0.2500001]]], dtype=sure)
        labels = torch.tensor([[[0, 1, 2, 0, 1, 2]]], dtype=dtype)
        target = torch.tensor([[[0, 1, 1, 2, 1, 77]]], dtype=dtype)
        calibration = Calibration(3, num_bins=4, ignore_index=77)
        calibration.update(labels, probability, target)
        table = calibration.compute()
        assert table.count.tolist() == [2, 1, 1, 1]
        assert table.accuracy.tolist() == [1, 0, 0, 1]
        assert table.confidence.tolist() == [0.125, 0.5, 0.75, 1]
        assert table.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
        assert table.expected_calibration_error == pytest.approx((1.75 + 0.5 + 0.75 + 0) / 5)
        assert table.maximum_calibration_error == 0.875


def test_nothing_and_void_everywhere() -> None:
    calibration = Calibration(3)
    calibration.update_scores(torch.zeros(0, 3, 2, 2), torch.zeros(0, 4, 4).byte())
    calibration.update_scores(torch.zeros(1, 3, 2, 2), torch.full((1, 4, 4), 255))
    table = calibration.compute()
    assert table.num_pixels == 0
    assert math.isnan(table.expected_calibration_error)
    assert math.isnan(table.maximum_calibration_error)
    assert np.isnan(table.accuracy).all()


def test_what_is_invalid_is_told() -> None:
    """NaN, probabilities above 1, labels out of range; void pixels may have any."""
    probability = torch.tensor([[[math.nan, 1.5, -0.1, 0.5, 0.5, math.nan]]])
    labels = torch.tensor([[[0, 0, 0, 0, 9, 9]]])
    target = torch.tensor([[[0, 0, 0, -3, 0, 255]]])
    calibration = Calibration(2)
    calibration.update(labels, probability, target)
    with pytest.raises(ValueError, match="got 5 pixels that are not"):
        calibration.compute()
    assert calibration.compute(on_invalid="drop").num_pixels == 0
    scores = torch.full((1, 2, 1, 1), math.nan)
    calibration.reset()
    calibration.update_scores(scores, torch.zeros(1, 2, 2).byte())
    with pytest.raises(ValueError, match="got 4 pixels that are not"):
        calibration.compute()


@pytest.mark.parametrize(
    "begun",
    [
        lambda: Calibration(3),
        lambda: Calibration(3, device="cpu"),
        lambda: copy.deepcopy(Calibration(3)),
        lambda: pickle.loads(pickle.dumps(Calibration(3))),
    ],
    ids=["new", "placed", "copied", "unpickled"],
)
@pytest.mark.parametrize("updated", [False, True])
@pytest.mark.parametrize("made_inside", [False, True])
def test_in_inference_mode_and_outside(begun: Any, made_inside: bool, updated: bool) -> None:
    with torch.inference_mode(made_inside):
        calibration = begun()
    with torch.inference_mode():
        if updated:
            calibration.update_scores(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 4).byte())
    calibration.update_scores(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 4).byte())
    assert calibration.compute().num_pixels == 16 * (1 + updated)
    calibration.reset()
    assert calibration.compute().num_pixels == 0


def test_copies_and_an_update_that_fails() -> None:
    calibration = Calibration(3, num_bins=5)
    calibration.update_scores(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 4).byte())
    other = pickle.loads(pickle.dumps(calibration))
    with pytest.raises(ValueError, match="prediction must have the shape of target"):
        calibration.update(
            torch.zeros(1, 4, 5).byte(), torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).byte()
        )
    calibration.update_scores(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 4).byte())
    assert (calibration.compute().num_pixels, other.compute().num_pixels) == (32, 16)
    assert repr(other) == "Calibration(num_classes=3, num_bins=5, ignore_index=255)"


def test_processes_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(3)
    calibration.all_reduce()  # without a group nothing is done
    calibration.update_scores(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 4).byte())
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        calibration.all_reduce()
        assert calibration.compute().num_pixels == 16
        monkeypatch.setattr(dist, "all_reduce", lambda total, group, op=None: op or total.mul_(3))
        calibration.all_reduce()
    finally:
        dist.destroy_process_group()
    assert calibration.compute().num_pixels == 48


LABELS = torch.zeros(1, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Calibration(0), ValueError, "num_classes must be >= 1, got 0"),
        (lambda: Calibration(2, num_bins=0), ValueError, r"num_bins must be in \[1, 65536\]"),
        (lambda: Calibration(2, num_bins=1.5), TypeError, "num_bins must be an integer"),
        (lambda: Calibration(2).compute(on_invalid="no"), ValueError, "on_invalid must be"),
        (
            lambda: Calibration(2).update(LABELS, LABELS, LABELS),
            ValueError,
            "probability must be floating, got torch.uint8",
        ),
        (
            lambda: Calibration(2).update(LABELS.float(), LABELS.float(), LABELS),
            ValueError,
            "prediction must be uint8, int16, int32 or int64, got float32",
        ),
        (
            lambda: Calibration(2).update_scores(torch.zeros(1, 3, 2, 2), LABELS),
            ValueError,
            "scores must have num_classes = 2 channels",
        ),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_counts_are_on_the_host_whatever_the_default_device() -> None:
    with torch.device("meta"):
        calibration = Calibration(2)
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    with torch.device("meta"):
        calibration.update(labels, torch.full_like(labels, 0.7, dtype=torch.float32), labels)
        assert calibration.compute().num_pixels == 4


@pytest.mark.parametrize("num_bins", [*range(1, 60), 93, 100, 255, 1000, 65536])
@pytest.mark.parametrize("sure", [torch.float64, torch.float32])
def test_bins_are_those_of_the_edges(num_bins: int, sure: torch.dtype, device: Any) -> None:
    """To the last bit, whatever a product of probability and bins is rounded to."""
    edges = np.arange(num_bins + 1) / num_bins
    values = [edges, np.nextafter(edges[1:], 0), np.nextafter(edges[:-1], 1)]
    probability = torch.from_numpy(np.concatenate(values)).to(sure)
    given = probability.double().clamp(0, 1).numpy()
    expected = np.bincount(np.maximum(np.searchsorted(edges, given) - 1, 0), minlength=num_bins)
    calibration = Calibration(1, num_bins=num_bins)
    labels = torch.zeros(1, 1, len(given), dtype=torch.uint8, device=device)
    calibration.update(labels, probability.clamp(0, 1)[None, None].to(device), labels)
    table = calibration.compute()
    np.testing.assert_array_equal(table.edges, edges)
    np.testing.assert_array_equal(table.count, expected)


@pytest.mark.parametrize("kind", [BoundaryIoU, Calibration, ConfusionMatrix])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(1, 2, 4, 4, dtype=torch.int64), "must be float32, float64, float16 or"),
        (torch.zeros(1, 3, 4, 4), "must have num_classes = 2 channels"),
        (torch.zeros(1, 2, 0, 4), "must have at least one row and one column"),
    ],
)
def test_scores_that_are_none_are_called_so(kind: Any, scores: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^scores {message}"):
        kind(2).update_scores(scores, torch.zeros(1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("kind", [BoundaryIoU, Calibration, ConfusionMatrix])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3, 8, 8), r"must have the batch size of scores, 2, got \(3, 8, 8\)"),
        (torch.zeros(2, 0, 8), r"must have at least one row and one column, got \(2, 0, 8\)"),
        (torch.zeros(2, 8, 0), r"must have at least one row and one column, got \(2, 8, 0\)"),
    ],
)
def test_scores_and_targets_that_do_not_fit(kind: Any, target: Tensor, message: str) -> None:
    """Errors name the arguments of the call, none of what it makes of them."""
    metric, scores = kind(3), torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=f"^target {message}$"):
        metric.update_scores(scores, target.byte())
    message = "^scores and target must be on the same device, got cpu and meta$"
    with pytest.raises(ValueError, match=message):
        metric.update_scores(scores, torch.zeros(2, 8, 8, dtype=torch.uint8, device="meta"))


@pytest.mark.parametrize("kind", [BoundaryIoU, Calibration, ConfusionMatrix])
@pytest.mark.parametrize("geometry", [Resize(), Deconvolution(8)])
def test_a_compiled_step_counts(kind: Any, geometry: Geometry) -> None:
    """As one graph, which serves batches of other sizes."""
    compiled, eager = kind(3), kind(3)
    step = torch.compile(
        lambda scores, target: compiled.update_scores(scores, target, geometry),
        fullgraph=True,
        backend="aot_eager",
    )
    for images, rows in ((2, 4), (3, 5), (1, 6), (4, 7)):
        generator = torch.Generator().manual_seed(rows)
        scores = torch.randn(images, 3, rows, 4, generator=generator)
        target = torch.randint(0, 3, (images, 3 * rows, 9), generator=generator)
        step(scores, target)
        eager.update_scores(scores, target, geometry)
    assert str(compiled.compute()) == str(eager.compute())
