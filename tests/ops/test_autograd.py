"""How calls meet autograd: what the graph shows, what is refused, what torch may lack."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from fcn_ext import losses, ops
from fcn_ext.ops import _autograd

from .heads import PLAIN, Case
from .losses import REDUCTIONS


def _grad_fn(result: Tensor) -> str:
    assert result.grad_fn is not None
    return result.grad_fn.name()


def test_graph_names_the_operator() -> None:
    input = torch.randn(1, 2, 3, 3, requires_grad=True)
    output = ops.upsample(input, 2)
    assert _grad_fn(output) == "UpsampleBackward"
    (grad,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
    assert _grad_fn(grad) == "UpsampleBackwardBackward"
    assert _grad_fn(ops.interpolate(input, 5)) == "InterpolateBackward"
    assert _grad_fn(ops.fuse_skip(input, torch.randn(1, 2, 9, 9), 1)) == "FuseSkipBackward"


def test_graph_is_made_where_it_is_asked_for() -> None:
    input = torch.randn(1, 2, 3, 3, requires_grad=True)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert not ops.upsample(input, 2).requires_grad
    assert not ops.upsample(input.detach(), 2).requires_grad
    assert not ops.interpolate_argmax(input, 5).requires_grad


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_refuse_forward_mode(case: Case, reduction: str) -> None:
    scores, target = case.scores(1, 3), case.labels(1, 3)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = case.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result

    refused = r"^fcn_ext::cross_entropy(_pixels)? has no forward mode AD: .* in reverse mode"
    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(loss(scores)).tangent is None
        with pytest.raises(NotImplementedError, match=refused):
            loss(forward_ad.make_dual(scores, torch.ones_like(scores)))
    with pytest.raises(NotImplementedError, match=refused):
        torch.func.jvp(loss, (scores,), (torch.ones_like(scores),))


@pytest.mark.parametrize(
    ("operator", "call"),
    [
        ("region_sums", lambda x, t: ops.region_sums(x, t).intersection),
        ("sigmoid_sums", lambda x, t: ops.sigmoid_sums(x, t[:, None] > 0)),
        ("sigmoid_loss", lambda x, t: ops.sigmoid_loss(x, t[:, None] > 0, torch.ones(1, 8))[0]),
        ("cross_entropy_hits", lambda x, t: losses.cross_entropy(x, t, return_accuracy=True)[0]),
    ],
)
def test_forward_mode_is_refused_by_the_name_of_the_operator(
    operator: str, call: Callable[[Tensor, Tensor], Tensor]
) -> None:
    scores, target = torch.zeros(2, 1, 3, 4), torch.zeros(2, 6, 8, dtype=torch.int64)
    refused = f"^fcn_ext::{operator} has no forward mode AD: .* torch.func.jacrev do$"
    for transform in (torch.func.jacfwd, torch.func.hessian):
        with pytest.raises(NotImplementedError, match=refused):
            transform(lambda given: call(given, target).sum())(scores)
    (gradient,) = torch.func.vjp(lambda given: call(given, target).sum(), scores)[1](torch.ones(()))
    assert gradient.shape == scores.shape


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_labels_are_constants(case: Case) -> None:
    """To derivatives of every kind, and so is their probability."""
    scores = case.scores(1, 3)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(scores, torch.ones_like(scores))
        for result in case.head(ops, "argmax", dual, return_probability=True):
            assert forward_ad.unpack_dual(result).tangent is None

    def where_first(given: Tensor) -> Tensor:
        labels = case.head(ops, "argmax", given)
        return (case.materialized(ops, given) * (labels == 0).unsqueeze(1)).sum()

    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(where_first(leaf), leaf)
    assert expected.count_nonzero() > 0
    assert torch.equal(torch.func.grad(where_first)(scores), expected)
    second = torch.func.grad(lambda given: torch.func.grad(where_first)(given).sum())(scores)
    assert second.count_nonzero() == 0


class _Scaled(TorchFunctionMode):
    """Multiplies what upsample is given and what it returns by ``factor``."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "fcn_ext::upsample" not in str(func):
            return func(*args, **(kwargs or {}))
        scores, *geometry = args
        return func(scores * self.factor, *geometry, **(kwargs or {})) * self.factor


def test_torch_function_modes_are_part_of_the_graph() -> None:
    factor = torch.tensor(3.0, requires_grad=True)
    for requires_grad in (False, True):
        input = torch.ones(1, 1, 2, 2, requires_grad=requires_grad)
        with _Scaled(factor):
            output = ops.upsample(input, 2)
        leaves = [factor, input] if requires_grad else [factor]
        grads = torch.autograd.grad(output.sum(), leaves)
        torch.testing.assert_close(grads[0], 6 * ops.upsample(input, 2).sum())
        if requires_grad:
            torch.testing.assert_close(grads[1], torch.full_like(input, 9.0 * 4))


def test_a_default_device_leaves_tangents_alone() -> None:
    """torch.device as a context is such a mode, too."""
    input = torch.randn(1, 2, 3, 4)
    with torch.device("cpu"):
        _, tangent = torch.func.jvp(lambda map: ops.upsample(map, 2), (input,), (2 * input,))
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(ops.upsample(forward_ad.make_dual(input, input), 2))
    torch.testing.assert_close(tangent, ops.upsample(2 * input, 2))
    torch.testing.assert_close(dual.tangent, ops.upsample(input, 2))


def test_forward_mode_is_refused_in_compiled_code() -> None:
    """In words; torch.library would return tangents of zero."""
    input = torch.randn(1, 2, 3, 4)

    def tangent(given: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(lambda map: ops.upsample(map, 2), (given,), (given,))[1]
        return result

    with pytest.raises(Exception, match="fcn_ext::upsample has no forward mode in compiled code"):
        torch.compile(tangent, backend="eager", fullgraph=True)(input)


def test_another_threads_compilation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread compiles, torch.compiler.is_compiling() is true in all of them."""
    input = torch.randn(1, 2, 3, 4)
    expected = torch.autograd.functional.jacobian(lambda map: ops.upsample(map, 2).sum(), input)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    leaf = input.clone().requires_grad_()
    ops.upsample(leaf, 2).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, expected)
    torch.testing.assert_close(
        torch.func.grad(lambda map: ops.upsample(map, 2).sum())(input), expected
    )
    _, tangent = torch.func.jvp(lambda map: ops.upsample(map, 2), (input,), (input,))
    torch.testing.assert_close(tangent, ops.upsample(input, 2))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace")
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_trace_by_torch_jit_keeps_the_operator_and_its_gradient(requires_grad: bool) -> None:
    """torch.jit.trace checks a trace by a second one, without gradient: both name one line."""
    input = torch.randn(1, 2, 3, 4, requires_grad=requires_grad)
    traced = torch.jit.trace(lambda map: ops.upsample(map, 2), (input,))
    assert [node.kind() for node in traced.graph.nodes()].count("fcn_ext::upsample") == 1
    given = torch.randn(1, 2, 3, 4, requires_grad=True)
    expected = ops.upsample(given, 2)
    assert torch.equal(traced(given), expected)
    grads = [torch.autograd.grad(result.sum(), given)[0] for result in (traced(given), expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("name", "substitute"),
    [
        ("_below_autograd", nullcontext),
        ("_transforms_active", lambda: True),
        ("_is_tracing", torch.jit.is_tracing),  # type: ignore[attr-defined]
    ],
)
def test_without_what_torch_does_not_promise(
    name: str, substitute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private helpers of torch make calls faster. Without them results are the same."""
    input = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    skip = torch.randn(2, 3, 12, 13, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (2, 10, 12))
    used = 0

    def counted(*args: Any) -> Any:
        nonlocal used
        used += 1
        return substitute(*args)

    def results() -> list[Any]:
        fused = ops.fuse_skip(input, skip, 1)
        loss = ops.upsample_cross_entropy(input, target, 2)
        grads = torch.autograd.grad(fused.square().sum() + loss, [input, skip], create_graph=True)
        with forward_ad.dual_level():
            dual = ops.upsample(forward_ad.make_dual(input.detach(), skip[..., :4, :5].detach()), 2)
            tangent = forward_ad.unpack_dual(dual).tangent
        return [fused, loss, *grads, tangent, ops.upsample_argmax(input, 2)]

    expected = results()
    monkeypatch.setattr(_autograd, name, counted)
    for actual, result in zip(results(), expected, strict=True):
        assert torch.equal(actual, result)
        assert actual.requires_grad == result.requires_grad
    assert used > 0
    assert torch.autograd.gradgradcheck(lambda map: ops.upsample(map, 2), input, fast_mode=True)


def test_vmap_over_no_examples() -> None:
    """As torch's own operators: results of no examples, of the right shapes and dtypes."""
    maps, skips = torch.randn(0, 2, 3, 4, 5), torch.randn(0, 2, 3, 12, 14)
    labels = torch.randint(0, 3, (0, 2, 8, 10), dtype=torch.uint8)
    calls: list[tuple[Any, tuple[Tensor, ...]]] = [
        (lambda x: ops.upsample(x, 2, offset=1), (maps,)),
        (lambda x: ops.interpolate(x, (9, 7)), (maps.half(),)),
        (lambda x, y: ops.fuse_skip(x, y, 1), (maps, skips)),
        (lambda x: ops.argmax(x, (8, 10)), (maps,)),
        (lambda x: ops.argmax(x, (8, 10), return_probability=True), (maps.double(),)),
        *(
            (
                lambda x, y, reduction=reduction: ops.cross_entropy(x, y, reduction=reduction),
                (maps, labels),
            )
            for reduction in REDUCTIONS
        ),
    ]
    for call, arguments in calls:
        results = torch.vmap(call)(*arguments)
        one = call(*(torch.zeros(each.shape[1:], dtype=each.dtype) for each in arguments))
        if isinstance(results, Tensor):
            results, one = (results,), (one,)
        for result, expected in zip(results, one, strict=True):
            assert result.shape == (0, *expected.shape)
            assert result.dtype == expected.dtype
    moved = torch.vmap(lambda x: ops.upsample(x, 2), in_dims=4)(torch.randn(2, 3, 4, 5, 0))
    assert moved.shape == (0, 2, 3, 10, 12)
    weights = torch.rand(0, 3)
    scores, target = torch.randn(2, 3, 4, 5), labels.new_zeros(2, 8, 10)
    for reduction in REDUCTIONS:
        losses = torch.vmap(
            lambda w, reduction=reduction: ops.cross_entropy(
                scores, target, weight=w, reduction=reduction
            )
        )(weights)
        assert losses.shape == ((0, 2, 8, 10) if reduction == "none" else (0,))
    counts, invalid = torch.zeros(0, 3, 3).long(), torch.zeros(0).long()
    torch.vmap(lambda p, t, o, i: ops.confusion_matrix(p, t, 3, out=o, invalid=i))(
        labels, labels, counts, invalid
    )
    gradients = torch.vmap(torch.func.grad(lambda x, y: ops.cross_entropy(x, y)))(maps, labels)
    assert gradients.shape == maps.shape


LOSSES = {
    "dice": lambda scores, labels, masks: losses.dice_loss(scores, labels),
    "dice + cross-entropy": lambda scores, labels, masks: losses.dice_cross_entropy_loss(
        scores, labels
    ),
    "cross-entropy": lambda scores, labels, masks: ops.cross_entropy(scores, labels),
    "focal": lambda scores, labels, masks: losses.focal_loss(scores, labels),
    "hardest": lambda scores, labels, masks: losses.ohem_cross_entropy(scores, labels),
    "sigmoid": lambda scores, labels, masks: losses.sigmoid_cross_entropy(scores, masks),
    "sigmoid dice": lambda scores, labels, masks: losses.sigmoid_dice_loss(scores, masks),
    "distillation": lambda scores, labels, masks: losses.distillation_loss(
        scores, scores.detach(), masks.shape[2:]
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_asked_for_by_identity(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch raises an exception inside for ``gradient == None``, which takes 100 us."""

    def refuse(self: Tensor, other: Any) -> Any:
        raise AssertionError(f"compared with {other!r}")

    scores = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.randint(0, 3, (2, 16, 20))
    masks = torch.randint(0, 2, (2, 3, 16, 20), dtype=torch.uint8)
    result = LOSSES[loss](scores, labels, masks)
    monkeypatch.setattr(Tensor, "__eq__", refuse)
    result.backward()
    assert scores.grad is not None
