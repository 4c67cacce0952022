"""torch.compile around and within the context: the same results, and no error of our own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import deferred_interpolate, fused_upsampling
from fcn_ext._uncompiled import STRATEGIES

from .common import assert_as_plain, assert_same, labels, scores, up

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


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda x: x,
    "some classes": lambda x: x[:, :3],
    "a class": lambda x: x[:, 0],
    "some probabilities": lambda x: x.softmax(1)[:, 1:],
    "some rows": lambda x: x[:, :, 2:9],
    "an image": lambda x: x[0],
    "a chunk": lambda x: x.chunk(2, 1)[1],
    "of a view": lambda x: x.permute(0, 2, 3, 1)[:, 2:5],
    "of a part": lambda x: x[:, :4][:, 1:3],
    "windows": lambda x: x.unfold(2, 4, 4),
    "expanded": lambda x: x[:, :1].expand(2, 4, -1, -1),
    "of what is computed": lambda x: (x.sum(), x[:, :2])[1],
}
COMPILED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.exp().mean(),
    "in place, and powers": lambda x: (x * 1).add_(1).pow(2).sum(),
    "several numbers": lambda x: (x * 3).clamp(min=-1).mul(2).pow(3).sum(),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("function", COMPILED)
def test_parts_given_to_a_compiled_function(part: str, function: str) -> None:
    """Ordinary tensors among them, which are views of a deferred one."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        torch._dynamo.reset()
        value = torch.compile(COMPILED[function], backend="aot_eager")(PARTS[part](logits))
        value.backward()
        return value, coarse.grad, logits.argmax(1)

    assert_as_plain(program, scores)


@pytest.mark.skipif(not STRATEGIES, reason="this torch has no such hook")
def test_its_own_code_is_not_compiled() -> None:
    """By a backend that counts the graphs it is given."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph.code)
        return graph.forward

    torch._dynamo.reset()
    with fused_upsampling():
        for call in (Tensor.square, Tensor.numpy, lambda x: F.cross_entropy(x, TARGET)):
            torch.compile(lambda x, call=call: call(x), backend=backend)(up(scores().detach()))
    assert graphs == []


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
