"""Scores of a confusion matrix, and the counts that it is given."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.metrics import ConfusionMatrix, Scores, scores_from_matrix

LABELS = torch.arange(3, dtype=torch.uint8).repeat(1, 4, 1)
SCORES = torch.zeros(1, 3, 2, 2)


def score_py(hist: np.ndarray) -> dict[str, float]:
    """The rules of the paper's reference implementation: NaN classes out of the means."""
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = np.diag(hist) / hist.sum(1)
        iu = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
        frequency = hist.sum(1) / hist.sum()
        return {
            "pixel_accuracy": np.diag(hist).sum() / hist.sum(),
            "mean_accuracy": np.nanmean(accuracy),
            "mean_iu": np.nanmean(iu),
            "frequency_weighted_iu": (frequency[frequency > 0] * iu[frequency > 0]).sum(),
        }


def test_known_values() -> None:
    scores = scores_from_matrix(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert scores.pixel_accuracy == 7 / 8
    assert scores.mean_accuracy == (3 / 4 + 1) / 2
    assert scores.mean_iu == (3 / 4 + 4 / 5) / 2
    assert scores.frequency_weighted_iu == (3 / 4 + 4 / 5) / 2
    assert np.isnan(scores.class_iu[2])
    assert scores.num_pixels == 8


def test_absent_classes() -> None:
    """Class 2 is predicted though absent: IU 0 in the mean, left out of the mean over present."""
    scores = scores_from_matrix(np.array([[2, 0, 2], [0, 4, 0], [0, 0, 0]]))
    assert scores.mean_iu == (2 / 4 + 1 + 0) / 3
    assert scores.mean_iu_present == (2 / 4 + 1) / 2
    assert np.isnan(scores.class_accuracy[2])
    assert scores.class_iu[2] == 0


@pytest.mark.parametrize("absent", [(), (0,), (3, 7), tuple(range(1, 21))])
def test_agrees_with_the_reference_rules_to_the_last_digit(absent: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        hist = generator.integers(0, 10**6, (21, 21))
        hist[list(absent)] = 0
        scores = scores_from_matrix(hist)
        for name, value in score_py(hist.astype(np.float64)).items():
            assert getattr(scores, name) == pytest.approx(value, rel=1e-15, abs=0)


def test_nothing_counted_is_nan() -> None:
    scores = scores_from_matrix(np.zeros((4, 4), dtype=np.int64))
    assert np.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.mean_iu)
    assert scores.as_dict()["mean_iu"] is None
    assert scores.as_dict()["class_iu"] == [None] * 4


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), dtype=np.int64), r"square \(num_classes, num_classes\), got \(2, 3\)"),
        (np.zeros((2, 2)), "must hold counts, integers >= 0, got float64"),
        (np.array([[1, -1], [0, 0]]), "must hold counts"),
    ],
)
def test_rejects_matrix(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores_from_matrix(matrix)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_rejects_a_tensor_that_holds_no_counts(dtype: torch.dtype) -> None:
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"^matrix must hold counts, integers >= 0, got {kind}"):
        scores_from_matrix(torch.eye(2, dtype=dtype))


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_rejects_a_sparse_matrix(layout: str) -> None:
    matrix = getattr(torch.eye(2, dtype=torch.int64), layout)()
    with pytest.raises(
        TypeError, match=r"^matrix must be an ordinary dense tensor, got torch\.sparse"
    ):
        scores_from_matrix(matrix)


def test_accumulates_batches(device: torch.device) -> None:
    logits = torch.randn(4, 5, 20, 30, device=device)
    target = torch.randint(0, 5, (4, 20, 30), device=device)
    target[0] = 255
    whole, parts = ConfusionMatrix(5), ConfusionMatrix(5, device=device)
    whole.update(logits, target)
    for image in range(4):
        parts.update(logits[image : image + 1].argmax(1), target[image : image + 1].to(torch.uint8))
    assert torch.equal(whole.matrix, parts.matrix)
    assert whole.compute().num_pixels == 3 * 600
    parts.reset()
    assert int(parts.matrix.sum()) == 0


def test_accumulates_coarse_scores(device: torch.device) -> None:
    """As the upsampled scores are counted; whole numbers, so that ties are the same ties."""
    scores = torch.randint(-3, 4, (4, 5, 5, 6), device=device).float()
    target = torch.randint(0, 5, (4, 20, 24), device=device)
    target[0] = 255
    plain, fused = ConfusionMatrix(5), ConfusionMatrix(5)
    logits = ops.upsample(scores, 4, offset=(1, 2), output_size=(20, 24))
    plain.update(logits, target)
    fused.update_upsampled(scores, target, 4, offset=(1, 2))
    assert torch.equal(plain.matrix, fused.matrix)
    plain.update(ops.interpolate(scores, (20, 24)), target)
    fused.update_interpolated(scores, target)
    assert fused.compute().num_pixels == 2 * 3 * 480
    assert torch.equal(plain.matrix, fused.matrix)
    shorthands, whole = fused, ConfusionMatrix(5)
    whole.update_scores(scores, target, Deconvolution(4, offset=(1, 2)))
    whole.update_scores(scores, target)
    assert torch.equal(whole.matrix, shorthands.matrix)
    whole.update_scores(scores, target, Resize(align_corners=True))
    shorthands.update_interpolated(scores, target, align_corners=True)
    assert torch.equal(whole.matrix, shorthands.matrix)


def test_invalid_labels_are_named() -> None:
    matrix = ConfusionMatrix(3)
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 0, :2] = 7
    matrix.update(torch.zeros(1, 4, 4, dtype=torch.int64), target)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\).* got 2 pixels that are not"):
        matrix.compute()
    assert matrix.compute(on_invalid="drop").num_pixels == 14
    with pytest.raises(ValueError, match="on_invalid must be"):
        matrix.compute(on_invalid="hope")
    matrix.reset()
    assert np.isnan(matrix.compute().mean_iu)


def test_rejects() -> None:
    with pytest.raises(ValueError, match="num_classes must be in"):
        ConfusionMatrix(0)
    with pytest.raises(ValueError, match="class_names must have num_classes = 3 names, got 2"):
        ConfusionMatrix(3, class_names=["a", "b"])


HUGE = 2**63


@pytest.mark.parametrize("value", [HUGE, -HUGE - 1, 2**70])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("num_classes", ConfusionMatrix),
        ("ignore_index", lambda value: ConfusionMatrix(3, ignore_index=value)),
        ("stride", lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, value)),
        (
            "kernel_size",
            lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, 2, kernel_size=value),
        ),
        (
            "offset",
            lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, 2, offset=value),
        ),
    ],
)
def test_numbers_beyond_64_bits_are_refused_by_name(
    name: str, call: Callable[[int], object], value: int
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must fit in 64 bits, got {value}$"):
        call(value)


def test_equal_scores_have_equal_numbers() -> None:
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    scores = scores_from_matrix(counts)
    assert np.isnan(scores.class_iu).any()
    for same in (scores, scores_from_matrix(torch.from_numpy(counts)), copy.deepcopy(scores)):
        assert scores == same
        assert not scores != same  # noqa: SIM202
    nothing = scores_from_matrix(np.zeros((3, 3), dtype=np.int64))
    assert nothing == scores_from_matrix(np.zeros((3, 3), dtype=np.int32))
    others = [
        nothing,
        scores_from_matrix(counts[:2, :2]),
        scores_from_matrix(counts * 2),
        scores_from_matrix(counts.T),
        *(
            dataclasses.replace(scores, **{field.name: getattr(nothing, field.name)})
            for field in dataclasses.fields(Scores)
        ),
        None,
        scores.as_dict(),
    ]
    for other in others:
        assert scores != other
        assert not scores == other  # noqa: SIM201
    assert scores in [nothing, scores]


def test_scores_are_no_keys() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'Scores'"):
        hash(scores_from_matrix(np.eye(3, dtype=np.int64)))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_sums_of_counts_do_not_wrap_around(dtype: Any) -> None:
    matrix = np.array([[2**60, 0], [2**60, 2**61]], dtype=dtype)
    scores = scores_from_matrix(matrix)
    assert (scores.num_pixels, scores.pixel_accuracy) == (2**62, 0.75)
    for factor in (2, 3):
        with pytest.raises(ValueError, match=r"^matrix must hold fewer than 2\*\*63 pixels, got "):
            scores_from_matrix(matrix * factor)


def test_matrices_that_are_masked_or_ragged_are_named() -> None:
    masked = np.ma.masked_equal(np.eye(3, dtype=np.int64), 0)
    with pytest.raises(ValueError, match=r"^matrix must not be masked, got 6 masked elements"):
        scores_from_matrix(masked)
    with pytest.raises(ValueError, match=r"^matrix must be an array, got a list that is none"):
        scores_from_matrix([[1], [0, 1]])  # type: ignore[arg-type]
