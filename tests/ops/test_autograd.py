"""How calls meet autograd: what the graph shows, what is refused, what torch may lack."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from heads import PLAIN, Geometry
from losses import REDUCTIONS
from torch import Tensor
from torch.autograd import forward_ad

from fcn_ext import ops
from fcn_ext.ops import _autograd


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


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_refuse_forward_mode(geometry: Geometry, reduction: str) -> None:
    scores, target = geometry.scores(1, 3), geometry.labels(1, 3)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = geometry.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result

    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(loss(scores)).tangent is None
        with pytest.raises(NotImplementedError, match="forward mode AD"):
            loss(forward_ad.make_dual(scores, torch.ones_like(scores)))
    with pytest.raises((NotImplementedError, RuntimeError), match=r"forward mode AD|jvp"):
        torch.func.jvp(loss, (scores,), (torch.ones_like(scores),))


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_labels_have_no_tangent(geometry: Geometry) -> None:
    scores = geometry.scores(1, 3)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(scores, torch.ones_like(scores))
        labels = geometry.head(ops, "argmax", dual)
        assert forward_ad.unpack_dual(labels).tangent is None


def test_without_what_torch_does_not_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The private helpers of torch make calls faster. Without them results are the same."""
    input = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    skip = torch.randn(2, 3, 12, 13, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (2, 10, 12))

    def results() -> list[Any]:
        fused = ops.fuse_skip(input, skip, 1)
        loss = ops.upsample_cross_entropy(input, target, 2)
        grads = torch.autograd.grad(fused.square().sum() + loss, [input, skip], create_graph=True)
        return [fused, loss, *grads, ops.upsample_argmax(input, 2)]

    expected = results()
    monkeypatch.setattr(_autograd, "_below_autograd", nullcontext)
    monkeypatch.setattr(_autograd, "_transforms_active", lambda: True)
    for actual, result in zip(results(), expected, strict=True):
        assert torch.equal(actual, result)
        assert actual.requires_grad == result.requires_grad
    assert torch.autograd.gradgradcheck(lambda map: ops.upsample(map, 2), input, fast_mode=True)
