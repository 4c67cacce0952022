"""What the cross-entropy got right, from its own pass: the counts of the confusion matrix, beside
the same loss and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import losses, ops
from fcn_ext.ops._cross_entropy import cross_entropy_hits

from .contract import LAYOUTS, channels_last, contiguous
from .heads import (
    CASES,
    LABEL_TYPES,
    PLAIN,
    SCORE_TYPES,
    Case,
    drawn,
    interpolated,
    trained_like,
    upsampled,
)
from .losses import REDUCTIONS, near

NAN, INF = float("nan"), float("inf")


def with_hits(
    case: Case, scores: Tensor, target: Tensor, reduction: str = "sum", **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient of its sum, and hits."""
    leaf = scores.detach().requires_grad_()
    given = {"weight": None, "ignore_index": 255, "label_smoothing": 0.0} | options
    loss, hits = cross_entropy_hits(leaf, target, case.geometry, reduction=reduction, **given)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), gradient, hits


def without(
    case: Case, scores: Tensor, target: Tensor, reduction: str = "sum", **options: Any
) -> tuple[Tensor, Tensor]:
    leaf = scores.detach().requires_grad_()
    loss = ops.cross_entropy(leaf, target, case.geometry, reduction=reduction, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), gradient


def same(first: Tensor, second: Tensor) -> bool:
    """Bit for bit, and NaN in the same places."""
    return torch.equal(first.nan_to_num(7.5), second.nan_to_num(7.5)) and torch.equal(
        first.isnan(), second.isnan()
    )


def assert_hits(
    case: Case,
    scores: Tensor,
    target: Tensor,
    reductions: list[str] = ["sum"],  # noqa: B006
    **options: Any,
) -> None:
    """As the confusion matrix counts; loss and gradient have the bits that they have without."""
    ignore_index = options.get("ignore_index", 255)
    matrix = ops.score_confusion_matrix(scores, target, case.geometry, ignore_index=ignore_index)
    for reduction in reductions:
        loss, gradient, hits = with_hits(case, scores, target, reduction, **options)
        assert hits.dtype == torch.int64
        assert hits.device == scores.device
        assert hits.tolist() == [int(matrix.sum()), int(matrix.trace())]
        expected, expected_gradient = without(case, scores, target, reduction, **options)
        assert same(loss, expected)
        assert same(gradient, expected_gradient)
        assert gradient.stride() == expected_gradient.stride()


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_counts_of_the_confusion_matrix(
    case: Case, dtype: torch.dtype, device: torch.device
) -> None:
    target = case.labels(2, 5).to(device)
    for scores in (
        case.scores(2, 5, dtype),
        case.scores(2, 5, dtype).round(),  # ties
        trained_like(case, 2, 5, dtype),
        torch.zeros(2, 5, *case.coarse, dtype=dtype),
    ):
        assert_hits(case, scores.to(device), target, REDUCTIONS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_labels_as_nets_predict_them(case: Case, device: torch.device) -> None:
    """Groups of cells of one label, of its borders, with void in between and elsewhere."""
    scores = trained_like(case, 2, 21).to(device)
    best = case.head(ops, "argmax", scores).long()
    moved = best.roll((1, 2), (1, 2))
    ringed = torch.where(moved == best, best, 255)
    patches = torch.where(best == best[0, 0, 0], best, 255)
    for target in (best, moved, ringed, patches, torch.full_like(best, 3), best * 0 + 20):
        assert_hits(case, scores, target)
    _, _, hits = with_hits(case, scores, best)
    assert hits.tolist() == [best.numel()] * 2


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    case = drawn(data, most_columns=40, widest=200)
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    scores = case.scores(n, c, dtype)
    kind = data.draw(st.sampled_from(["random", "round", "trained", "special", "masked"]))
    if kind == "round":
        scores = scores.round()
    elif kind == "trained":
        scores = trained_like(case, n, c, dtype)
    elif kind != "random":
        values = [-INF] if kind == "masked" else [NAN, INF, -INF]
        chance = torch.rand(scores.shape, generator=torch.Generator().manual_seed(5))
        for index, value in enumerate(values):
            scores[(chance > 0.1 * index) & (chance < 0.1 * index + 0.07)] = value
    scores = data.draw(st.sampled_from(LAYOUTS))(scores)
    target = case.labels(n, c).to(data.draw(st.sampled_from(LABEL_TYPES)))
    if data.draw(st.booleans(), label="one label"):
        target = torch.where(target == 255, target, data.draw(st.integers(0, c - 1)))
        target = target.to(torch.int64)
    assert_hits(case, scores, target)


@pytest.mark.parametrize("case", [upsampled((5, 6), 4), upsampled((4, 37), 8)], ids=str)
@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
def test_non_finite_scores(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    special = torch.tensor([NAN, INF, -INF, 0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    for common in (1, 4, 20, 200):  # so many finite ones to one that is not
        draw = torch.randint(0, 3 + 5 * common, (3, 4, *case.coarse), generator=generator)
        draw = torch.where(draw < 3, draw, 3 + draw % 5)
        scores = special[draw].to(device, dtype)
        best = case.head(ops, "argmax", scores).long()
        for target in (case.labels(3, 4).to(device), best, torch.full_like(best, 2)):
            assert_hits(case, scores, target, ["sum", "none"])


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_masked_classes(case: Case, device: torch.device) -> None:
    """Also where all are, and level: the first wins."""
    masked = torch.full((1, 3, *case.coarse), -INF, device=device)
    masked[0, 2, :, ::2] = 1.0
    some = case.scores(1, 3).to(device)
    some[:, [0, 2]] = -INF
    for scores in (masked, some):
        for target in (
            case.labels(1, 3).to(device),
            *(case.labels(1, 3) * 0 + c for c in range(3)),
        ):
            assert_hits(case, scores, target.to(device))


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(case: Case, layout: Any, device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        scores, target = case.scores(2, 6, dtype).to(device), case.labels(2, 6).to(device)
        assert_hits(case, layout(scores), target, REDUCTIONS)


@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
def test_any_labels(dtype: torch.dtype, device: torch.device) -> None:
    for case in PLAIN:
        scores, target = case.scores(2, 4).to(device), case.labels(2, 4).to(device)
        labels = target.to(dtype)
        for given_labels in (labels, labels.mT.contiguous().mT, labels[:1].expand(2, -1, -1)):
            assert_hits(case, scores, given_labels)
        # Void in the range of classes, or nowhere.
        assert_hits(case, scores, labels % 4, ignore_index=2)
        assert_hits(case, scores, labels % 4, ignore_index=-100)


def test_weights_and_smoothing_do_not_count(device: torch.device) -> None:
    for case in PLAIN:
        scores, target = case.scores(2, 4).to(device), case.labels(2, 4).to(device)
        for weight in ([0.0, 1.0, 2.0, 0.5], [0.0] * 4, [1.0, INF, 1.0, 2.0]):
            for smoothing in (0.0, 0.2):
                options = {"weight": torch.tensor(weight, device=device)}
                assert_hits(case, scores, target, REDUCTIONS, label_smoothing=smoothing, **options)


WIDE = [
    (847, interpolated((2, 200), (9, 700))),  # several strips
    (40, interpolated((30, 70), (120, 280))),
    (3, upsampled((2, 3), 100)),
    (3, interpolated((90, 5), (31, 400))),
]


@pytest.mark.parametrize(("classes", "case"), WIDE, ids=str)
def test_large_maps(classes: int, case: Case, threads: None) -> None:
    """However many threads share them."""
    target = case.labels(2, classes, void=-1)
    for scores in (case.scores(2, classes), trained_like(case, 2, classes)):
        best = case.head(ops, "argmax", scores).long()
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            for labels in (target, best):
                assert_hits(case, scores, labels, ignore_index=-1)


def test_one_class_and_one_pixel(device: torch.device) -> None:
    for case in (*PLAIN, interpolated((4, 5), (1, 1)), upsampled((1, 1), 1)):
        for classes in (1, 3):
            target = case.labels(2, classes, void=None).to(device)
            assert_hits(case, case.scores(2, classes).to(device), target)
            if classes == 1:
                _, _, hits = with_hits(case, case.scores(2, 1).to(device), target)
                assert hits.tolist() == [target.numel()] * 2


def test_nothing_counts(device: torch.device) -> None:
    for case in PLAIN:
        scores = case.scores(2, 3).to(device)
        void = torch.full((2, *case.fine), 255, device=device)
        for given_scores, target in ((scores, void), (scores[:0], void[:0])):
            assert_hits(case, given_scores, target, REDUCTIONS)
            _, _, hits = with_hits(case, given_scores, target)
            assert hits.tolist() == [0, 0]
            _, accuracy = losses.cross_entropy(
                given_scores, target, case.geometry, return_accuracy=True
            )
            assert accuracy.isnan()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_hits_have_no_gradient(reduction: str, device: torch.device) -> None:
    case = PLAIN[1]
    scores = case.scores(2, 3).to(device).requires_grad_()
    arguments = (case.labels(2, 3).to(device), case.geometry, None, 255, reduction, 0.0)
    loss, hits = cross_entropy_hits(scores, *arguments)
    assert loss.requires_grad
    assert not hits.requires_grad
    (gradient,) = torch.autograd.grad(loss.sum(), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="cross_entropy is differentiable once"):
        gradient.sum().backward()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            quiet, same_hits = cross_entropy_hits(scores, *arguments)
            assert not quiet.requires_grad
            near(quiet, loss.detach(), 1e-6)
            assert torch.equal(same_hits, hits)


def test_a_gradient_nobody_announced() -> None:
    for case in PLAIN:
        scores, target = case.scores(2, 3), case.labels(2, 3)
        leaf = scores.clone().requires_grad_()
        arguments = (leaf, target, case.numbers, None, 255, 0.0, False, False)
        loss, _, gradient, _ = torch.ops.fcn_ext.cross_entropy_hits.default(*arguments)
        assert gradient.shape == (0,)
        (3 * loss).backward()
        _, expected = without(case, scores, target)
        assert leaf.grad is not None
        near(leaf.grad, 3 * expected, 1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_transforms(reduction: str) -> None:
    """Each example's hits are its own, whatever they share."""
    case = PLAIN[1]
    stacked = torch.stack([case.scores(2, 3, seed=s) for s in range(3)], dim=2)
    targets = torch.stack([case.labels(2, 3, seed=s) for s in range(3)], dim=1)

    def call(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return cross_entropy_hits(scores, target, case.geometry, None, 255, reduction, 0.1)

    _, hits = torch.vmap(call, in_dims=(2, 1))(stacked, targets)
    _, shared = torch.vmap(call, in_dims=(2, None))(stacked, targets[:, 0])
    for index in range(3):
        assert torch.equal(hits[index], call(stacked[:, :, index], targets[:, index])[1])
        assert torch.equal(shared[index], call(stacked[:, :, index], targets[:, 0])[1])

    def summed(scores: Tensor) -> tuple[Tensor, Tensor]:
        loss, found = call(scores, targets[:, 0])
        return loss.sum(), found

    gradient, beside = torch.vmap(torch.func.grad(summed, has_aux=True), in_dims=2)(stacked)
    assert torch.equal(beside, shared)
    options = {"label_smoothing": 0.1}
    near(
        gradient[1],
        without(case, stacked[:, :, 1], targets[:, 0], reduction, **options)[1],
        1e-6,
    )


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_opcheck(case: Case, device: torch.device) -> None:
    target = case.labels(2, 4).to(device)
    weight = torch.rand(4, device=device)
    for layout, dtype, class_weights in (
        (contiguous, torch.float32, weight),
        (channels_last, torch.bfloat16, None),
    ):
        scores = layout(case.scores(2, 4, dtype).to(device)).requires_grad_()
        common = (scores, target, case.numbers, class_weights, 255, 0.1)
        for with_gradient in (False, True):
            torch.library.opcheck(
                torch.ops.fcn_ext.cross_entropy_hits.default, (*common, True, with_gradient)
            )
        torch.library.opcheck(torch.ops.fcn_ext.cross_entropy_pixels_hits.default, common)
