"""The fused losses under autograd, torch.func, vmap, compilation, export and autocast."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_ext import ops

from .contract import channels_last, contiguous
from .heads import PLAIN, Case, loss_and_gradient
from .losses import REDUCTIONS, near


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_second_derivative_is_refused(case: Case, reduction: str) -> None:
    """Also where the incoming gradient is a constant, which alone would end the graph."""
    scores, target = case.scores(1, 3).requires_grad_(), case.labels(1, 3)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = case.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result.sum()

    (gradient,) = torch.autograd.grad(loss(scores), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="cross_entropy is differentiable once"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="is differentiable once"):
        torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(scores.detach())


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_functional_gradients(case: Case, reduction: str, device: torch.device) -> None:
    """torch.func.grad, alone, under vmap and over it; and Jacobians of one row at a time."""
    target = case.labels(2, 3).to(device)
    stacked = torch.stack([case.scores(2, 3, seed=seed) for seed in range(3)]).to(device)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = case.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result.sum()

    expected = torch.stack(
        [loss_and_gradient(ops, case, s, target, reduction=reduction)[1] for s in stacked]
    )
    near(torch.func.grad(loss)(stacked[0]), expected[0], 1e-6)
    near(torch.vmap(torch.func.grad(loss))(stacked), expected, 1e-6)
    over = torch.func.grad(lambda given: torch.vmap(loss)(given).sum())(stacked)
    near(over, expected, 1e-6)
    row = torch.func.jacrev(lambda given: loss(given).reshape(1))(stacked[0])
    near(row[0], expected[0], 1e-6)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap(case: Case, reduction: str, device: torch.device) -> None:
    stacked = torch.stack([case.scores(2, 3, seed=s) for s in range(3)], dim=2).to(device)
    targets = torch.stack([case.labels(2, 3, seed=s) for s in range(3)], dim=1).to(device)
    weights = torch.rand(3, 3, device=device)

    def loss(scores: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        options = {"reduction": reduction, "weight": weight}
        result: Tensor = case.head(ops, "cross_entropy", scores, target, **options)
        return result

    for weight, dim in ((None, None), (weights[0], None), (weights, 0)):
        actual = torch.vmap(loss, in_dims=(2, 1, dim))(stacked, targets, weight)
        for index in range(3):
            own = weight[index] if weight is not None and dim == 0 else weight
            expected = loss(stacked[:, :, index], targets[:, index], own)
            torch.testing.assert_close(actual[index], expected)
    alone = torch.vmap(loss, in_dims=(2, None, None))(stacked, targets[:, 0], None)
    torch.testing.assert_close(alone[1], loss(stacked[:, :, 1], targets[:, 0], None))


def test_a_gradient_nobody_announced(device: torch.device) -> None:
    """An operator called without its gradient computes it when it is asked for after all."""
    for case in PLAIN:
        scores, target = case.scores(2, 3).to(device), case.labels(2, 3).to(device)
        leaf = scores.clone().requires_grad_()
        arguments = (leaf, target, case.numbers, None, 255, 0.0, False, False)
        loss, _, gradient = torch.ops.fcn_ext.cross_entropy.default(*arguments)
        assert gradient.shape == (0,)
        (3 * loss).backward()
        _, expected = loss_and_gradient(ops, case, scores, target, reduction="sum")
        assert leaf.grad is not None
        near(leaf.grad, 3 * expected, 1e-6)


class Calls(TorchDispatchMode):
    """Which passes over the scores were made: with a gradient, or without."""

    def __init__(self) -> None:
        super().__init__()
        self.with_gradient: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "fcn_ext::cross_entropy":
            self.with_gradient.append(args[-1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_one_pass(case: Case, device: torch.device) -> None:
    """The gradient is computed with the loss, and only where it will be asked for."""
    scores, target = case.scores(1, 3).to(device), case.labels(1, 3).to(device)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = case.head(ops, "cross_entropy", given, target)
        return result

    def passes(call: Any) -> list[bool]:
        with Calls() as calls:
            call()
        return calls.with_gradient

    leaf = scores.clone().requires_grad_()
    assert passes(lambda: loss(leaf).backward()) == [True]
    assert passes(lambda: torch.func.grad(loss)(scores)) == [True]
    assert passes(lambda: loss(scores)) == [False]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert passes(lambda: loss(leaf)) == [False]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_one_pass_compiled(case: Case, device: torch.device) -> None:
    scores, target = case.scores(1, 3).to(device), case.labels(1, 3).to(device)
    scores.requires_grad_()
    passes: list[list[bool]] = []

    def record(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        op = torch.ops.fcn_ext.cross_entropy.default
        passes.append([node.args[-1] for node in graph.graph.nodes if node.target == op])
        return make_boxed_func(graph.forward)

    @torch.compile(fullgraph=True, backend=aot_autograd(fw_compiler=record))
    def loss(given: Tensor) -> Tensor:
        result: Tensor = case.head(ops, "cross_entropy", 2 * given, target)
        return result

    loss(scores).backward()
    with torch.no_grad():
        loss(scores)
    assert passes == [[True], [], [False]]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_opcheck(case: Case, device: torch.device) -> None:
    target = case.labels(2, 4).to(device)
    weight = torch.rand(4, device=device)
    for layout, dtype, class_weights in (
        (contiguous, torch.float32, weight),
        (channels_last, torch.bfloat16, None),
        (channels_last, torch.float64, weight.double()),
    ):
        scores = layout(case.scores(2, 4, dtype).to(device)).requires_grad_()
        common = (scores, target, case.numbers, class_weights, 255, 0.1)
        op = torch.ops.fcn_ext.cross_entropy.default
        for mean, with_gradient in itertools.product((False, True), repeat=2):
            torch.library.opcheck(op, (*common, mean, with_gradient))
        torch.library.opcheck(torch.ops.fcn_ext.cross_entropy_pixels.default, common)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        torch.library.opcheck(
            torch.ops.fcn_ext.cross_entropy_pixels_backward.default,
            (torch.rand(target.shape, device=device, dtype=wide), scores.detach(), *common[1:]),
        )


@pytest.mark.parametrize("kind", ["upsample", "interpolate"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_compiles_and_exports(kind: str, reduction: str, device: torch.device) -> None:
    class Loss(torch.nn.Module):
        def forward(self, scores: Tensor, target: Tensor) -> Tensor:
            options = {"stride": 4, "offset": 1} if kind == "upsample" else {}
            head = getattr(ops, f"{kind}_cross_entropy")
            result: Tensor = head(2 * scores, target, reduction=reduction, **options)
            return result.sum()

    compiled = torch.compile(Loss(), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (5, 6, 9):
        scores = torch.randn(2, 3, size, size + 1, device=device, requires_grad=True)
        target = torch.randint(0, 3, (2, 3 * size, 3 * size + 2), device=device)
        loss, expected = compiled(scores, target), Loss()(scores, target)
        assert torch.equal(loss, expected)
        (gradient,) = torch.autograd.grad(loss, scores)
        (expected_gradient,) = torch.autograd.grad(expected, scores)
        near(gradient, expected_gradient, 1e-6)
    height, width = torch.export.Dim("height", min=3), torch.export.Dim("width", min=3)
    program = torch.export.export(
        Loss(),
        (scores.detach(), target),
        dynamic_shapes={"scores": {2: height, 3: width}, "target": {}},
    )
    longer = torch.randn(2, 3, 11, 12, device=device)
    torch.testing.assert_close(program.module()(longer, target), Loss()(longer, target))


def test_autocast_changes_no_dtype(device: torch.device) -> None:
    """Half scores of a net under autocast are used as they are; the loss is float32 anyway."""
    for case in PLAIN:
        target = case.labels(1, 3).to(device)
        for dtype in (torch.float32, torch.bfloat16):
            scores = case.scores(1, 3, dtype).to(device)
            expected = loss_and_gradient(ops, case, scores, target)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                actual = loss_and_gradient(ops, case, scores, target)
            assert actual[0].dtype == torch.float32
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
