"""Shorthands of the heads give the same numbers as the heads, for every geometry."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from fcn_ext import ops, reference

from .heads import CASES, Case


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.geometry.numbers) < 5], ids=str
)
def test_shorthands_are_their_heads(case: Case, module: ModuleType) -> None:
    scores, target = case.scores(2, 4), case.labels(2, 4)
    for name, tensors, options in (
        ("cross_entropy", (scores, target), {"label_smoothing": 0.1}),
        ("argmax", (scores,), {"return_probability": True}),
        ("score_confusion_matrix", (scores, target), {"ignore_index": 1}),
    ):
        head = case.head(module, name, *tensors, **options)
        shorthand = case.shorthand(module, name, *tensors, **options)
        if not isinstance(head, tuple):
            head, shorthand = (head,), (shorthand,)
        for one, other in zip(head, shorthand, strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.geometry.numbers) < 5], ids=str
)
def test_heads_are_those_of_the_materialized_scores(case: Case) -> None:
    scores, target = case.scores(2, 4, torch.float64), case.labels(2, 4)
    logits = case.materialized(ops, scores)
    loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(case.head(ops, "cross_entropy", scores, target), loss)
    labels = case.head(ops, "argmax", scores)
    winner = logits.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(winner, logits.amax(1))
    counts = ops.confusion_matrix(labels, target, 4)
    assert torch.equal(case.head(ops, "score_confusion_matrix", scores, target), counts)


def test_any_strides_of_weights_and_matrices_will_do() -> None:
    """No layout that a kernel would like reaches the caller."""
    case = CASES[1]
    scores, target = case.scores(2, 4), case.labels(2, 4)
    table = torch.rand(4, 3)
    for weight in (table[:, 0], table.T[1], torch.ones(1).expand(4), table.double()[:, 2]):
        for reduction in ("none", "mean"):
            options = {"reduction": reduction}
            loss = case.head(ops, "cross_entropy", scores, target, weight=weight, **options)
            dense = weight.float().clone()
            expected = case.head(ops, "cross_entropy", scores, target, weight=dense, **options)
            assert torch.equal(loss, expected)
    leaf = scores.clone().requires_grad_()
    pixels = case.head(ops, "cross_entropy", leaf, target, reduction="none")
    wide = torch.rand(2, *case.fine[::-1]).transpose(1, 2)
    (strided,) = torch.autograd.grad(pixels, leaf, wide, retain_graph=True)
    (dense,) = torch.autograd.grad(pixels, leaf, wide.contiguous())
    assert torch.equal(strided, dense)
    expected = case.head(ops, "score_confusion_matrix", scores, target)
    labels = case.head(ops, "argmax", scores)
    for out in (torch.ones(4, 4, dtype=torch.int64).T, torch.ones(9, 8).long()[1:5, ::2]):
        before = out.clone()
        assert case.head(ops, "score_confusion_matrix", scores, target, out=out) is out
        assert torch.equal(out - before, expected)
        ops.confusion_matrix(labels, target, 4, out=out)
        assert torch.equal(out - before, 2 * expected)


def test_strides_of_the_operators_themselves() -> None:
    scores, target = torch.randn(1, 3, 4, 5), torch.randint(0, 3, (1, 8, 10))
    table = torch.rand(3, 2)
    numbers = (255, 0.1)
    op, pixels_op = torch.ops.fcn_ext.cross_entropy, torch.ops.fcn_ext.cross_entropy_pixels
    for column in (table[:, 0], torch.ones(()).expand(3)):
        for mean in (False, True):
            strided = op(scores, target, (0,), column, *numbers, mean, True)
            dense = op(scores, target, (0,), column.clone(), *numbers, mean, True)
            assert all(map(torch.equal, strided, dense))
        assert torch.equal(
            pixels_op(scores, target, (0,), column, *numbers),
            pixels_op(scores, target, (0,), column.clone(), *numbers),
        )
