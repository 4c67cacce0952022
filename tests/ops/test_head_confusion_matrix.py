"""Confusion counts straight from coarse scores: those of the argmax, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference

from .contract import LAYOUTS
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


def counts(case: Case, scores: Tensor, target: Tensor, **options: Any) -> tuple[Any, int]:
    invalid = torch.zeros((), dtype=torch.int64, device=target.device)
    matrix = case.head(ops, "score_confusion_matrix", scores, target, invalid=invalid, **options)
    return matrix, int(invalid)


def assert_counts(case: Case, scores: Tensor, target: Tensor, **options: Any) -> None:
    matrix, invalid = counts(case, scores, target, **options)
    expected_invalid = torch.zeros((), dtype=torch.int64, device=target.device)
    labels = case.head(ops, "argmax", scores)
    expected = ops.confusion_matrix(
        labels, target, scores.shape[1], invalid=expected_invalid, **options
    )
    assert matrix.dtype == torch.int64
    assert torch.equal(matrix, expected)
    assert invalid == int(expected_invalid)


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_counts_the_argmax(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    for classes in (1, 2, 9, 40):
        target = case.labels(2, classes).to(device)
        assert_counts(case, case.scores(2, classes, dtype).to(device), target)
        assert_counts(case, trained_like(case, 2, classes, dtype).to(device), target)


@pytest.mark.parametrize("num_classes", [21, 150, 256, 300, 847])
def test_any_number_of_classes(num_classes: int, device: torch.device) -> None:
    case, void = upsampled((6, 7), 8, offset=(4, 4), fine=(40, 51)), 5000
    target = case.labels(2, num_classes, void=void).to(device)
    for scores in (case.scores(2, num_classes), trained_like(case, 2, num_classes)):
        assert_counts(case, scores.to(device), target, ignore_index=void)


def test_matches_reference(device: torch.device) -> None:
    """Scores of few values and a stride of 4: sums are exact, ties are decided as torch does."""
    case = PLAIN[0]
    scores, target = case.scores(2, 5).round().to(device), case.labels(2, 5).to(device)
    target[0, 0, :3] = 77
    matrix, invalid = counts(case, scores, target)
    expected = case.head(reference, "score_confusion_matrix", scores.double(), target)
    assert torch.equal(matrix, expected[0])
    assert invalid == expected[1] == 3


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
def test_label_types(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    scores = case.scores(2, 9).to(device)
    target = case.labels(2, 9, void=200)
    if dtype != torch.uint8:
        target[0, 5, :6] = -1
    if dtype == torch.int64:
        target[1, 5, :6] = 2**32 + 1
    target = target.to(device, dtype)
    for ignore_index in (200, -1, 4, 255):
        assert_counts(case, scores, target, ignore_index=ignore_index)
    strided = target.transpose(1, 2).contiguous().transpose(1, 2)
    assert_counts(case, scores, strided, ignore_index=200)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(case: Case, layout: Any, device: torch.device) -> None:
    scores, target = case.scores(2, 6).to(device), case.labels(2, 6).to(device)
    assert_counts(case, layout(scores), target)


def test_accumulates_into_out(device: torch.device) -> None:
    for case in PLAIN:
        scores, target = case.scores(2, 5).to(device), case.labels(2, 5).to(device)
        out = torch.zeros(5, 5, dtype=torch.int64, device=device)
        for image in range(2):
            one = slice(image, image + 1)
            returned = case.head(ops, "score_confusion_matrix", scores[one], target[one], out=out)
            assert returned is out
        assert torch.equal(out, counts(case, scores, target)[0])


def test_nothing_to_count(device: torch.device) -> None:
    for case in PLAIN:
        none = counts(case, case.scores(0, 3).to(device), case.labels(0, 3).to(device))
        void = torch.full((2, *case.fine), 255, device=device)
        assert not none[0].any()
        assert not counts(case, case.scores(2, 3).to(device), void)[0].any()


@pytest.mark.parametrize(
    "case",
    [upsampled((31, 40), 4, fine=(120, 157)), interpolated((21, 29), (90, 150))],
    ids=str,
)
def test_threads_change_nothing(case: Case, threads: None) -> None:
    target = case.labels(3, 19)
    for scores in (case.scores(3, 19), trained_like(case, 3, 19)):
        runs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            runs.append(counts(case, scores, target)[0])
        assert all(torch.equal(run, runs[0]) for run in runs[1:])


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_opcheck(case: Case, device: torch.device) -> None:
    target = case.labels(2, 4).to(device)
    matrix = torch.zeros(4, 4, dtype=torch.int64, device=device)
    invalid = torch.zeros((), dtype=torch.int64, device=device)
    torch.library.opcheck(
        torch.ops.fcn_ext.score_confusion_matrix.default,
        (case.scores(2, 4).to(device), target, case.numbers, 255, matrix, invalid),
    )


@pytest.mark.parametrize("kind", ["upsample", "interpolate"])
def test_compiles_and_exports(kind: str) -> None:
    class Evaluate(torch.nn.Module):
        def forward(self, scores: Tensor, target: Tensor) -> Tensor:
            if kind == "upsample":
                return ops.upsample_confusion_matrix(scores, target, 4)
            return ops.interpolate_confusion_matrix(scores, target)

    scores, target = torch.randn(2, 3, 6, 7), torch.randint(0, 3, (2, 21, 23))
    expected = Evaluate()(scores, target)
    compiled = torch.compile(Evaluate(), fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(scores, target), expected)
    program = torch.export.export(Evaluate(), (scores, target))
    assert torch.equal(program.module()(scores, target), expected)


def test_vmap_counts_each_example() -> None:
    for case in PLAIN:
        scores, target = case.scores(4, 3), case.labels(4, 3)
        out = torch.zeros(4, 3, 3, dtype=torch.int64)
        invalid = torch.zeros(4, dtype=torch.int64)

        def count(s: Tensor, t: Tensor, o: Tensor, i: Tensor, case: Case = case) -> Tensor:
            options = {"out": o, "invalid": i}
            matrix: Tensor = case.head(ops, "score_confusion_matrix", s[None], t[None], **options)
            return matrix

        torch.vmap(count)(scores, target, out, invalid)
        for index in range(4):
            one = slice(index, index + 1)
            assert torch.equal(out[index], counts(case, scores[one], target[one])[0])


def test_vmap_counts_of_what_examples_share() -> None:
    for case in PLAIN:
        scores = torch.stack([case.scores(2, 3, seed=seed) for seed in range(3)])
        target = torch.stack([case.labels(2, 3, seed=seed) for seed in range(3)])

        def count(s: Tensor, t: Tensor, case: Case = case) -> Tensor:
            matrix: Tensor = case.head(ops, "score_confusion_matrix", s, t)
            return matrix

        alone = torch.stack([torch.stack([count(s, t) for t in target]) for s in scores])
        assert torch.equal(torch.vmap(count, (0, None))(scores, target[1]), alone[:, 1])
        assert torch.equal(torch.vmap(count, (None, 0))(scores[2], target), alone[2])
        compiled = torch.compile(torch.vmap(count, (0, None)), fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(scores, target[1]), alone[:, 1])


SCORES, LABELS = torch.zeros(2, 3, 4, 5), torch.zeros(2, 8, 10, dtype=torch.int64)


@pytest.mark.parametrize(
    ("scores", "target", "options", "error", "message"),
    [
        ([1], LABELS, {}, TypeError, "input must be a torch.Tensor, got list"),
        (SCORES, [1], {}, TypeError, "target must be a torch.Tensor, got list"),
        (SCORES[0], LABELS, {}, ValueError, r"input must have shape \(N, C, H, W\)"),
        (SCORES.int(), LABELS, {}, ValueError, "input must be float32, .* got int32"),
        (SCORES, LABELS.float(), {}, ValueError, "target labels must be uint8, .* got float32"),
        (SCORES, LABELS[0], {}, ValueError, r"target labels must have shape \(N, H, W\)"),
        (SCORES, LABELS[:1], {}, ValueError, "(batch|shape)"),
        (SCORES, LABELS, {"ignore_index": 1.5}, TypeError, "ignore_index must be an integer"),
        (SCORES, LABELS, {"out": torch.zeros(2, 2)}, ValueError, "out must have shape .* = .3, 3"),
        (
            SCORES,
            LABELS,
            {"out": torch.zeros(3, 3)},
            ValueError,
            "out must be int64, got torch.float32",
        ),
        (SCORES, LABELS, {"invalid": torch.zeros(())}, ValueError, "invalid must be an int64"),
    ],
)
def test_rejects(
    scores: Any, target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.upsample_confusion_matrix(scores, target, 2, **options)
    with pytest.raises(error, match=message):
        ops.interpolate_confusion_matrix(scores, target, **options)


def test_rejects_geometry() -> None:
    with pytest.raises(ValueError, match="must be at most the upsampled"):
        ops.upsample_confusion_matrix(SCORES, LABELS, 1)
    with pytest.raises(TypeError, match="align_corners must be a bool"):
        ops.interpolate_confusion_matrix(SCORES, LABELS, align_corners=1)  # type: ignore[arg-type]
