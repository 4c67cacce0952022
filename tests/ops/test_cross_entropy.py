"""The fused losses as operators: values, gradients, layouts, determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops

from .contract import LAYOUTS, channels_last, channels_last_window, contiguous
from .heads import (
    CASES,
    LABEL_TYPES,
    PLAIN,
    SCORE_TYPES,
    Case,
    drawn,
    interpolated,
    loss_and_gradient,
    upsampled,
)
from .losses import GRADIENT, REDUCTIONS, assert_matches, near


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    scores = case.scores(2, 5, dtype).to(device)
    target = case.labels(2, 5).to(device)
    weight = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.25], device=device)
    for reduction in REDUCTIONS:
        assert_matches(case, scores, target, reduction=reduction)
    assert_matches(case, scores, target, weight=weight)
    assert_matches(case, scores, target, weight=weight, label_smoothing=0.1)
    assert_matches(case, scores, target, label_smoothing=0.3, reduction="none", weight=weight)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    case = drawn(data)
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    scores = data.draw(st.sampled_from(LAYOUTS))(case.scores(n, c, dtype))
    target = case.labels(n, c).to(data.draw(st.sampled_from(LABEL_TYPES)))
    weight = torch.rand(c) if data.draw(st.booleans(), label="weight") else None
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    reduction = data.draw(st.sampled_from(["none", "sum"]))
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    assert_matches(case, scores, target, **options)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_layout(case: Case, dtype: torch.dtype, layout: Any, device: torch.device) -> None:
    """Whatever the strides, the same numbers; the gradient has the layout of the scores."""
    scores, target = case.scores(2, 6, dtype).to(device), case.labels(2, 6).to(device)
    for reduction in REDUCTIONS:
        leaf = layout(scores).detach().requires_grad_()
        loss = case.head(ops, "cross_entropy", leaf, target, reduction=reduction)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        expected, expected_gradient = loss_and_gradient(
            ops, case, scores, target, reduction=reduction
        )
        near(loss.detach(), expected, 1e-6)
        near(gradient, expected_gradient, GRADIENT[dtype])
        last = layout in (channels_last, channels_last_window)
        assert gradient.is_contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
def test_any_label_type_and_strides(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    scores, target = case.scores(3, 4).to(device), case.labels(3, 4).to(device)
    target[1] = target[0]
    target[2] = target[0]
    labels = target.to(dtype)
    height, width = case.fine
    larger = torch.full((3, height + 2, 2 * width + 3), 77, dtype=dtype, device=device)
    window = larger[:, 1:-1, 2 : 2 + 2 * width : 2]
    window.copy_(labels)
    for given_labels in (
        labels,
        window,
        labels.transpose(1, 2).contiguous().transpose(1, 2),
        labels.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        labels[:1].expand(3, -1, -1),
        labels.flip(2).contiguous().flip(2),
    ):
        for reduction in REDUCTIONS:
            expected = loss_and_gradient(ops, case, scores, target, reduction=reduction)
            actual = loss_and_gradient(ops, case, scores, given_labels, reduction=reduction)
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(case: Case, reduction: str, device: torch.device) -> None:
    scores = case.scores(2, 4, torch.float64).to(device).requires_grad_()
    target = case.labels(2, 4).to(device)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5], device=device)

    def call(given: Tensor) -> Tensor:
        loss: Tensor = case.head(
            ops,
            "cross_entropy",
            given,
            target,
            weight=weight,
            label_smoothing=0.2,
            reduction=reduction,
        )
        return loss

    assert torch.autograd.gradcheck(call, (scores,), fast_mode=True)


def results(case: Case, scores: Tensor, target: Tensor) -> list[Tensor]:
    options: list[dict[str, Any]] = [
        {"reduction": "none"},
        {"reduction": "sum", "label_smoothing": 0.1},
        {"reduction": "mean", "weight": torch.linspace(0, 1, scores.shape[1]).to(scores.device)},
    ]
    return [
        tensor
        for given in options
        for tensor in loss_and_gradient(ops, case, scores, target, **given)
    ]


LARGER = [
    upsampled((21, 30), 4, offset=(2, 2), fine=(80, 117)),
    interpolated((11, 19), (90, 150)),
    interpolated((20, 31), (77, 101), align_corners=True),
]


@pytest.mark.parametrize("case", LARGER, ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_same_bits_twice(case: Case, layout: Any, device: torch.device) -> None:
    scores, target = layout(case.scores(3, 19)).to(device), case.labels(3, 19).to(device)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [results(case, scores, target) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("case", LARGER, ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_threads_change_no_bit(case: Case, layout: Any, threads: None) -> None:
    scores, target = layout(case.scores(3, 19)), case.labels(3, 19)
    runs = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        runs.append(results(case, scores, target))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
