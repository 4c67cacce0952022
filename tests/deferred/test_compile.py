"""torch.compile around and within the context: the same results, and no error of our own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import deferred_interpolate, fused_upsampling

from .common import assert_same, labels, scores, up

TARGET = labels()


def step(coarse: Tensor) -> Any:
    logits = up(coarse)
    return F.cross_entropy(logits, TARGET), logits.argmax(1)


def check(result: Any, coarse: Tensor) -> None:
    expected = scores()
    loss, predicted = step(expected)
    loss.backward()
    result[0].backward()
    assert_same((*result, coarse.grad), (loss, predicted, expected.grad))


@pytest.mark.parametrize("full", [False, True])
def test_a_compiled_function_in_the_context(full: bool) -> None:
    coarse = scores()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=full)
    with fused_upsampling():
        check(compiled(coarse), coarse)


@pytest.mark.parametrize("full", [False, True])
def test_the_context_in_a_compiled_function(full: bool) -> None:
    @torch.compile(backend="aot_eager", fullgraph=full)
    def within(coarse: Tensor) -> Any:
        with fused_upsampling():
            return step(coarse)

    coarse = scores()
    check(within(coarse), coarse)


def test_a_deferred_tensor_given_to_a_compiled_function() -> None:
    """Its graph breaks there."""
    coarse = scores()
    compiled = torch.compile(
        lambda x: (F.cross_entropy(x, TARGET), x.argmax(1)), backend="aot_eager"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(compiled(deferred_interpolate(coarse, (24, 28))), coarse)


def test_deferred_interpolate_compiled() -> None:
    coarse = scores()
    compiled = torch.compile(deferred_interpolate, backend="aot_eager", fullgraph=True)
    logits = compiled(coarse, (24, 28))
    assert type(logits) is Tensor
    check((F.cross_entropy(logits, TARGET), logits.argmax(1)), coarse)


def test_export_and_trace() -> None:
    class Head(torch.nn.Module):
        def forward(self, coarse: Tensor) -> Tensor:
            return up(coarse).argmax(1)

    coarse = scores().detach()
    with fused_upsampling():
        exported = torch.export.export(Head(), (coarse,)).module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced: Any = torch.jit.trace(Head(), coarse)
    assert torch.equal(exported(coarse), Head()(coarse))
    assert torch.equal(traced(coarse), Head()(coarse))
