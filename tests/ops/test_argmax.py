"""Label maps straight from coarse scores."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fcn_ext.nn
from fcn_ext import ops, reference

from .contract import LAYOUTS, channels_last, contiguous
from .heads import (
    CASES,
    LABEL_TYPES,
    PLAIN,
    SCORE_TYPES,
    Case,
    interpolated,
    trained_like,
    upsampled,
)

INF, NAN = float("inf"), float("nan")


def argmax(case: Case, scores: Tensor, **options: Any) -> Any:
    return case.head(ops, "argmax", scores, **options)


def assert_matches(case: Case, scores: Tensor) -> None:
    """The winner wherever it wins by more than rounding; elsewhere one that rounding excuses."""
    logits = case.materialized(reference, scores.double())
    rounding = (1e-14 if scores.dtype == torch.float64 else 2e-6) * float(scores.abs().max())
    labels, probability = argmax(case, scores, return_probability=True)
    assert torch.equal(argmax(case, scores), labels)
    assert labels.dtype == (torch.uint8 if scores.shape[1] <= 256 else torch.int16)
    best = logits.amax(1)
    chosen = logits.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    assert (chosen >= best - rounding).all()
    clear = (logits >= (best - rounding).unsqueeze(1)).sum(1) == 1
    assert torch.equal(labels[clear].long(), logits.argmax(1)[clear])
    wide = scores.dtype == torch.float64
    assert probability.dtype == (torch.float64 if wide else torch.float32)
    tolerance = 1e-12 if wide else 1e-6 * max(1.0, float(scores.abs().max()))
    torch.testing.assert_close(
        probability.double(), logits.softmax(1).amax(1), rtol=tolerance, atol=0
    )


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    for classes in (1, 2, 7, 40):
        assert_matches(case, case.scores(2, classes, dtype).to(device))
        assert_matches(case, trained_like(case, 2, classes, dtype).to(device))


@pytest.mark.parametrize("num_classes", [3, 16, 21, 150, 256, 257, 847])
def test_any_number_of_classes(num_classes: int, device: torch.device) -> None:
    for case in (*PLAIN, upsampled((5, 6), 8, offset=(4, 4), fine=(33, 41))):
        assert_matches(case, case.scores(2, num_classes).to(device))
        assert_matches(case, trained_like(case, 2, num_classes).to(device))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    """Scores of few, exact values: wherever sums are exact too, ties are decided as torch does."""
    coarse = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    exact = data.draw(st.booleans(), label="exact")
    if exact:
        stride = data.draw(st.sampled_from([1, 2, 4, 8, 16]), label="stride")
        k = 2 * stride if stride > 1 else 1
        whole = [(size - 1) * stride + k for size in coarse]
        top, left = (data.draw(st.integers(0, size - 1)) for size in whole)
        fine = (
            data.draw(st.integers(1, whole[0] - top)),
            data.draw(st.integers(1, whole[1] - left)),
        )
        case = upsampled(coarse, stride, offset=(top, left), fine=fine)
    else:
        fine = (data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
        case = interpolated(coarse, fine, align_corners=data.draw(st.booleans()))
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 30))
    scores = data.draw(st.sampled_from(LAYOUTS))(case.scores(n, c).round())
    if exact:
        expected = case.head(reference, "argmax", scores.double())
        assert torch.equal(argmax(case, scores), expected)
    else:
        assert_matches(case, scores)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_ties_go_to_the_lowest_class(case: Case, device: torch.device) -> None:
    for value in (0.0, -3.0, 1e30, -INF):
        scores = torch.full((2, 5, *case.coarse), value, device=device)
        assert not argmax(case, scores).any()
        if value != -INF:
            scores[:, 2:4] += abs(value) + 1
            assert (argmax(case, scores) == 2).all()


@pytest.mark.parametrize("case", [upsampled((5, 6), 4), upsampled((4, 4), 8)], ids=str)
@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
def test_non_finite_scores_as_in_torch(
    case: Case, dtype: torch.dtype, device: torch.device
) -> None:
    """NaN is greater than all else, and inf - inf is one. (Every weight here is above zero.)"""
    special = torch.tensor([NAN, INF, -INF, 0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    for common in (1, 4, 20):  # so many finite ones to one that is not
        draw = torch.randint(0, 3 + 5 * common, (3, 4, *case.coarse), generator=generator)
        draw = torch.where(draw < 3, draw, 3 + draw % 5)
        scores = special[draw].to(device, dtype)
        expected = case.head(reference, "argmax", scores.double())
        assert torch.equal(argmax(case, scores), expected)
        labels, probability = argmax(case, scores, return_probability=True)
        assert torch.equal(labels, expected)
        _, plain = case.head(reference, "argmax", scores.double(), return_probability=True)
        torch.testing.assert_close(probability.double(), plain, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_where_all_classes_are_masked_the_first_wins(case: Case, device: torch.device) -> None:
    """As everywhere between level classes, though one is ahead at a corner of the cell."""
    scores = torch.full((1, 3, *case.coarse), -INF, device=device)
    scores[0, 2, :, ::2] = 1.0
    expected = case.materialized(ops, scores).argmax(1)
    assert 0 < int(expected.count_nonzero()) < expected.numel()
    assert torch.equal(argmax(case, scores).long(), expected)
    labels, _ = argmax(case, scores, return_probability=True)
    assert torch.equal(labels.long(), expected)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_masked_classes_never_win(case: Case, device: torch.device) -> None:
    """A zero weight beside -inf reads nothing, so that no 0 * inf becomes a winner."""
    scores = case.scores(2, 6).to(device)
    open_classes = scores[:, [1, 2, 4]]
    scores[:, [0, 3, 5]] = -INF
    labels, probability = argmax(case, scores, return_probability=True)
    few, expected = argmax(case, open_classes, return_probability=True)
    assert torch.equal(labels, torch.tensor([1, 2, 4], device=device)[few.long()].to(labels.dtype))
    torch.testing.assert_close(probability, expected)


@pytest.mark.parametrize("stride", [2, 8, 32])
def test_winners_by_ten_thousand(stride: int, device: torch.device) -> None:
    case = upsampled((4, 5), stride)
    winner = torch.randint(0, 7, (2, 1, 4, 5))
    scores = torch.full((2, 7, 4, 5), -1e4).scatter_(1, winner, 1e4).to(device)
    labels, probability = argmax(case, scores, return_probability=True)
    expected, plain = case.head(reference, "argmax", scores.double(), return_probability=True)
    assert torch.equal(labels, expected)
    torch.testing.assert_close(probability.double(), plain, rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(case: Case, layout: Any, device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        scores = case.scores(2, 6, dtype).to(device)
        expected = argmax(case, scores, return_probability=True)
        actual = argmax(case, layout(scores), return_probability=True)
        assert torch.equal(actual[0], expected[0])
        torch.testing.assert_close(actual[1], expected[1], rtol=1e-6, atol=0)
        assert all(map.is_contiguous() for map in actual)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
def test_label_types(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    for classes in (3, 256, 300):
        scores = case.scores(1, classes).to(device)
        if classes > 256 and dtype == torch.uint8:
            with pytest.raises(ValueError, match=r"dtype must .* 299.* got (Byte|.*uint8)"):
                argmax(case, scores, dtype=dtype)
            continue
        labels = argmax(case, scores, dtype=dtype)
        assert labels.dtype == dtype
        assert torch.equal(labels.long(), argmax(case, scores, dtype=torch.int64))


def test_all_that_is_left(device: torch.device) -> None:
    scores = torch.randn(1, 3, 4, 5, device=device)
    labels = ops.upsample_argmax(scores, 4, offset=(1, 3))
    assert torch.equal(labels, reference.upsample_argmax(scores.double(), 4, offset=(1, 3)))


def test_no_gradient(device: torch.device) -> None:
    for case in PLAIN:
        scores = case.scores(1, 3).to(device).requires_grad_()
        for result in argmax(case, scores, return_probability=True):
            assert not result.requires_grad


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_opcheck(case: Case, device: torch.device) -> None:
    for layout, dtype, labels in (
        (contiguous, torch.float32, torch.uint8),
        (channels_last, torch.bfloat16, torch.int64),
        (contiguous, torch.float64, torch.int16),
    ):
        scores = layout(case.scores(2, 4, dtype).to(device)).requires_grad_()
        arguments = (scores, *case.fine, case.numbers)
        for with_probability in (False, True):
            torch.library.opcheck(
                torch.ops.fcn_ext.argmax.default, (*arguments, labels, with_probability)
            )


@pytest.mark.parametrize("kind", ["upsample", "interpolate"])
def test_compiles_and_exports(kind: str, device: torch.device) -> None:
    class Predict(torch.nn.Module):
        def forward(self, scores: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
            size = (image.shape[2], image.shape[3])
            if kind == "upsample":
                return ops.upsample_argmax(
                    2 * scores, 4, offset=1, output_size=size, return_probability=True
                )
            return ops.interpolate_argmax(2 * scores, size, return_probability=True)

    compiled = torch.compile(Predict(), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (5, 6, 9):
        scores = torch.randn(2, 3, size, size + 1, device=device)
        image = torch.empty(2, 3, 3 * size, 3 * size + 2, device=device)
        for a, e in zip(compiled(scores, image), Predict()(scores, image), strict=True):
            assert torch.equal(a, e)
    height, width = torch.export.Dim("height", min=3), torch.export.Dim("width", min=3)
    program = torch.export.export(
        Predict(), (scores, image), dynamic_shapes={"scores": {2: height, 3: width}, "image": {}}
    )
    scores = torch.randn(2, 3, 11, 12, device=device)
    for a, e in zip(program.module()(scores, image), Predict()(scores, image), strict=True):
        assert torch.equal(a, e)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_vmap(case: Case, device: torch.device) -> None:
    stacked = torch.stack([case.scores(2, 3, seed=s) for s in range(3)], dim=2).to(device)
    for probability in (False, True):
        options = {"return_probability": probability}
        actual = torch.vmap(lambda s: argmax(case, s, **options), in_dims=2)(stacked)  # noqa: B023
        for index in range(3):
            expected = argmax(case, stacked[:, :, index], **options)
            pairs = zip(actual, expected, strict=True) if probability else [(actual, expected)]
            assert all(torch.equal(a[index], e) for a, e in pairs)


def test_empty_batch(device: torch.device) -> None:
    for case in PLAIN:
        labels, probability = argmax(case, case.scores(0, 3).to(device), return_probability=True)
        assert labels.shape == probability.shape == (0, *case.fine)


@pytest.mark.parametrize(
    "case",
    [upsampled((31, 40), 4, fine=(120, 157)), interpolated((21, 29), (90, 150))],
    ids=str,
)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_threads_change_no_bit(case: Case, layout: Any, threads: None) -> None:
    for scores in (case.scores(3, 19), trained_like(case, 3, 19)):
        runs = []
        for count in (1, 2, 5, 5):
            torch.set_num_threads(count)
            runs.append(argmax(case, layout(scores), return_probability=True))
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize(
    ("scores", "options", "error", "message"),
    [
        ([1], {}, TypeError, "input must be a torch.Tensor, got list"),
        (torch.zeros(3, 4, 5), {}, ValueError, r"input must have shape \(N, C, H, W\), got \(3, 4"),
        (torch.zeros(1, 3, 4, 5).int(), {}, ValueError, "input must be float32, .* got int32"),
        (torch.zeros(1, 0, 4, 5), {}, ValueError, "input must have at least one (class|channel)"),
        (torch.zeros(1, 3, 4, 5), {"dtype": "u8"}, TypeError, "dtype must be a torch.dtype"),
        (torch.zeros(1, 3, 4, 5), {"dtype": torch.float32}, ValueError, "dtype must be .*int"),
        (
            torch.zeros(1, 3, 4, 5),
            {"return_probability": 1},
            TypeError,
            "return_probability must be a bool, got 1",
        ),
    ],
)
def test_rejects(
    scores: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.upsample_argmax(scores, 2, **options)
    with pytest.raises(error, match=message):
        ops.interpolate_argmax(scores, 9, **options)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "must be >= 1, got 0 along the height"),
        ((3, -1), ValueError, "must be >= 1, got -1 along the width"),
        (99, ValueError, "must be at most the upsampled height 10, got 0 [+] 99"),
        (2**40, ValueError, "must be at most the upsampled"),
        (2**63, ValueError, "must fit in 64 bits"),
        ("12", TypeError, "must be an integer"),
        ((1, 2, 3), ValueError, "must be an integer or a pair"),
        (torch.ones(2), TypeError, "must be an integer or a pair"),
    ],
    ids=str,
)
def test_errors_call_a_size_as_the_caller_does(
    size: Any, error: type[Exception], message: str
) -> None:
    scores = torch.zeros(1, 3, 4, 5)
    module = fcn_ext.nn.UpsampleArgmax(2)
    by_name = functools.partial(ops.upsample_argmax, scores, 2)
    for call in (lambda: by_name(output_size=size), lambda: module(scores, size)):
        with pytest.raises(error, match=rf"^(offset [+] )?output_size {message}"):
            call()
    with pytest.raises(ValueError, match=r"^dtype must be"):
        ops.upsample_argmax(scores, 2, output_size=5, dtype=torch.float32)


def test_rejects_geometry() -> None:
    scores = torch.zeros(1, 3, 4, 5)
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        ops.upsample_argmax(scores, 2, output_size=0)
    with pytest.raises(ValueError, match="must be at most the upsampled"):
        ops.upsample_argmax(scores, 2, output_size=99)
    with pytest.raises(TypeError, match="stride must be an integer"):
        ops.upsample_argmax(scores, 2.0)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"size must be in .* got \(0, 0\)"):
        ops.interpolate_argmax(scores, 0)
    with pytest.raises(TypeError, match="align_corners must be a bool"):
        ops.interpolate_argmax(scores, 9, align_corners=1)  # type: ignore[call-overload]
