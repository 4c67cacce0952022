"""The fused losses where labels or arguments are wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from fcn_ext import ops

from .heads import (
    LABEL_TYPES,
    PLAIN,
    loss_and_gradient,
)

NAN = float("nan")
SCORES, LABELS = torch.zeros(2, 3, 4, 5), torch.zeros(2, 8, 10, dtype=torch.int64)


@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
@pytest.mark.parametrize("value", [21, 77, 200, -1, 2**31, -(2**40), 2**32])
def test_a_label_out_of_range_is_named(value: int, dtype: torch.dtype, threads: None) -> None:
    info = torch.iinfo(dtype)
    if not info.min <= value <= info.max:
        value = info.max - 1
    message = re.escape(
        f"target must be in [0, 21) or ignore_index = 255, got {value} at batch index 1, row 3, "
        "column 9"
    )
    for case in PLAIN:
        target = case.labels(3, 21).to(dtype)
        target[1, 3, 9] = value
        target[2, 0, 0] = value
        for count in (1, 3):
            torch.set_num_threads(count)
            for reduction in ("none", "mean"):
                for scores in (case.scores(3, 21), case.scores(3, 21).requires_grad_()):
                    with pytest.raises(ValueError, match=message):
                        case.head(ops, "cross_entropy", scores, target, reduction=reduction)
        with pytest.raises(ValueError, match=message):
            ops.check_labels(target, 21)


@pytest.mark.cuda
def test_a_label_out_of_range_on_cuda_is_nan() -> None:
    for case in PLAIN:
        scores, target = case.scores(2, 21).cuda(), case.labels(2, 21).cuda()
        for value in (21, 254, -1, 2**40):
            target[1, 3, 9] = value
            for reduction in ("sum", "mean"):
                loss, _ = loss_and_gradient(ops, case, scores, target, reduction=reduction)
                assert loss.isnan()
            pixels = case.head(ops, "cross_entropy", scores, target, reduction="none")
            assert pixels[1, 3, 9].isnan()
            with pytest.raises(ValueError, match=f"got {value} at batch index 1, row 3, column 9"):
                ops.check_labels(target, 21)


@pytest.mark.parametrize(
    ("scores", "target", "options", "error", "message"),
    [
        ([1], LABELS, {}, TypeError, "input must be a torch.Tensor, got list"),
        (SCORES, [1], {}, TypeError, "target must be a torch.Tensor, got list"),
        (SCORES[0], LABELS, {}, ValueError, r"input must have shape \(N, C, H, W\), got \(3, 4, 5"),
        (SCORES.int(), LABELS, {}, ValueError, "input must be float32, .* got int32"),
        (SCORES[:, :0], LABELS, {}, ValueError, "input must have at least one (class|channel)"),
        (SCORES, LABELS.float(), {}, ValueError, "target labels must be uint8, .* got float32"),
        (SCORES, LABELS[0], {}, ValueError, r"target labels must have shape \(N, H, W\), got"),
        (SCORES, LABELS[:1], {}, ValueError, "(batch|shape)"),
        (SCORES, LABELS, {"weight": [1.0]}, TypeError, "weight must be a torch.Tensor, got list"),
        (
            SCORES,
            LABELS,
            {"weight": torch.ones(4)},
            ValueError,
            r"weight must have shape .* got \(4,",
        ),
        (SCORES, LABELS, {"weight": torch.ones(1, 3)}, ValueError, "weight must have shape"),
        (SCORES, LABELS, {"ignore_index": 1.5}, TypeError, "ignore_index must be an integer"),
        (SCORES, LABELS, {"reduction": "max"}, ValueError, "reduction must be .* got 'max'"),
        (SCORES, LABELS, {"label_smoothing": 1.5}, ValueError, "label_smoothing must be .* 1.5"),
        (SCORES, LABELS, {"label_smoothing": NAN}, ValueError, "label_smoothing must be"),
        (SCORES, LABELS, {"label_smoothing": "a"}, TypeError, "label_smoothing must be a number"),
        (
            SCORES,
            LABELS,
            {"weight": torch.ones(3, requires_grad=True)},
            RuntimeError,
            "weight must not require a gradient",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["upsample", "interpolate"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_rejects(
    kind: str,
    reduction: str,
    scores: Any,
    target: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    geometry = {"stride": 2} if kind == "upsample" else {}
    arguments = {"reduction": reduction, **geometry, **options}
    with pytest.raises(error, match=message):
        getattr(ops, f"{kind}_cross_entropy")(scores, target, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": 0}, ValueError, r"stride must be in \[1, 2\*\*30\], got 0"),
        ({"stride": 2.0}, TypeError, "stride must be an integer, got 2.0"),
        ({"stride": 2, "kernel_size": 6}, ValueError, "kernel_size must be .* 4 or 3, got 6"),
        ({"stride": 2, "offset": (-1, 0)}, ValueError, r"offset must be >= 0, got \(-1, 0\)"),
        ({"stride": 2, "offset": 7}, ValueError, "must be at most the upsampled"),
        ({"stride": 2, "offset": 40}, ValueError, "offset must be below the upsampled height 10"),
        ({"stride": 1}, ValueError, "offset . the size of target must be at most the upsampled"),
    ],
)
def test_rejects_geometry(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.upsample_cross_entropy(SCORES, LABELS, **arguments)
    with pytest.raises(error, match=message):
        ops.upsample_cross_entropy(SCORES, LABELS, **arguments, reduction="none")


def test_rejects_align_corners() -> None:
    with pytest.raises(TypeError, match="align_corners must be a bool, got 1"):
        ops.interpolate_cross_entropy(SCORES, LABELS, align_corners=1)  # type: ignore[arg-type]
