"""The fused losses as operators: values, gradients, layouts, tracing, transforms, determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract import LAYOUTS, channels_last, channels_last_window, contiguous
from heads import (
    GEOMETRIES,
    LABEL_TYPES,
    PLAIN,
    SCORE_TYPES,
    Geometry,
    interpolated,
    loss_and_gradient,
    upsampled,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_ext import ops, reference

REDUCTIONS = ["none", "sum", "mean"]
# Of the gradient, relative to its largest element: it is computed in float32 and rounded once.
GRADIENT = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def near(actual: Tensor, expected: Tensor, tolerance: float, least: float = 0.01) -> None:
    """Equal but for `tolerance` times the largest element (or `least`, where all are zero)."""
    assert actual.shape == expected.shape
    if actual.numel():
        error = float((actual.double() - expected.double()).abs().max())
        largest = float(expected.abs().max())
        assert error <= tolerance * max(largest, least), (error, largest)


def assert_matches(geometry: Geometry, scores: Tensor, target: Tensor, **options: Any) -> None:
    """Against float64 plain PyTorch of the same, rounded, scores."""
    wide = dict(options)
    if options.get("weight") is not None:
        wide["weight"] = options["weight"].double()
    expected, expected_gradient = loss_and_gradient(
        reference, geometry, scores.double(), target, **wide
    )
    loss, gradient = loss_and_gradient(ops, geometry, scores, target, **options)
    assert loss.dtype == (torch.float64 if scores.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == scores.dtype
    # A sum's errors cancel; those of single pixels are of the size of the scores.
    exact = 1e-12 if scores.dtype == torch.float64 else 1e-6 if loss.dim() == 0 else 4e-6
    near(loss, expected, exact)
    # What a gradient's terms add up to if they do not cancel, as all of a single class do.
    terms = float(geometry.weights().sum((1, 2)).max())
    least = terms if scores.shape[1] == 1 else 0.1 * terms
    near(gradient, expected_gradient, GRADIENT[scores.dtype], least)
    with torch.no_grad():  # the pass without a gradient is another one
        alone = geometry.head(ops, "cross_entropy", scores, target, **options)
    near(alone, expected, exact)


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_matches_reference(geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
    scores = geometry.scores(2, 5, dtype).to(device)
    target = geometry.labels(2, 5).to(device)
    weight = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.25], device=device)
    for reduction in REDUCTIONS:
        assert_matches(geometry, scores, target, reduction=reduction)
    assert_matches(geometry, scores, target, weight=weight)
    assert_matches(geometry, scores, target, weight=weight, label_smoothing=0.1)
    assert_matches(geometry, scores, target, label_smoothing=0.3, reduction="none", weight=weight)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    coarse = (data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7)))
    if data.draw(st.booleans(), label="upsample"):
        stride = data.draw(st.integers(1, 33), label="stride")
        k = 2 * stride - data.draw(st.integers(0, 1), label="odd")
        whole = [(size - 1) * stride + k for size in coarse]
        top, left = (data.draw(st.integers(0, size - 1)) for size in whole)
        fine = (
            data.draw(st.integers(1, whole[0] - top)),
            data.draw(st.integers(1, whole[1] - left)),
        )
        geometry = upsampled(coarse, stride, kernel_size=k, offset=(top, left), fine=fine)
    else:
        fine = (data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
        geometry = interpolated(coarse, fine, align_corners=data.draw(st.booleans()))
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    scores = data.draw(st.sampled_from(LAYOUTS))(geometry.scores(n, c, dtype))
    target = geometry.labels(n, c).to(data.draw(st.sampled_from(LABEL_TYPES)))
    weight = torch.rand(c) if data.draw(st.booleans(), label="weight") else None
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    reduction = data.draw(st.sampled_from(["none", "sum"]))
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    assert_matches(geometry, scores, target, **options)


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_layout(
    geometry: Geometry, dtype: torch.dtype, layout: Any, device: torch.device
) -> None:
    """Whatever the strides, the same numbers; the gradient has the layout of the scores."""
    scores, target = geometry.scores(2, 6, dtype).to(device), geometry.labels(2, 6).to(device)
    for reduction in REDUCTIONS:
        leaf = layout(scores).detach().requires_grad_()
        loss = geometry.head(ops, "cross_entropy", leaf, target, reduction=reduction)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        expected, expected_gradient = loss_and_gradient(
            ops, geometry, scores, target, reduction=reduction
        )
        near(loss.detach(), expected, 1e-6)
        near(gradient, expected_gradient, GRADIENT[dtype])
        last = layout in (channels_last, channels_last_window)
        assert gradient.is_contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
def test_any_label_type_and_strides(
    geometry: Geometry, dtype: torch.dtype, device: torch.device
) -> None:
    scores, target = geometry.scores(3, 4).to(device), geometry.labels(3, 4).to(device)
    target[1] = target[0]
    target[2] = target[0]
    labels = target.to(dtype)
    height, width = geometry.fine
    larger = torch.full((3, height + 2, 2 * width + 3), 77, dtype=dtype, device=device)
    window = larger[:, 1:-1, 2 : 2 + 2 * width : 2]
    window.copy_(labels)
    for given_labels in (
        labels,
        window,
        labels.transpose(1, 2).contiguous().transpose(1, 2),
        labels.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        labels[:1].expand(3, -1, -1),
        labels.flip(2).contiguous().flip(2),
    ):
        for reduction in REDUCTIONS:
            expected = loss_and_gradient(ops, geometry, scores, target, reduction=reduction)
            actual = loss_and_gradient(ops, geometry, scores, given_labels, reduction=reduction)
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(geometry: Geometry, reduction: str, device: torch.device) -> None:
    scores = geometry.scores(2, 4, torch.float64).to(device).requires_grad_()
    target = geometry.labels(2, 4).to(device)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5], device=device)

    def call(given: Tensor) -> Tensor:
        loss: Tensor = geometry.head(
            ops,
            "cross_entropy",
            given,
            target,
            weight=weight,
            label_smoothing=0.2,
            reduction=reduction,
        )
        return loss

    assert torch.autograd.gradcheck(call, (scores,), fast_mode=True)


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_second_derivative_is_refused(geometry: Geometry, reduction: str) -> None:
    """Also where the incoming gradient is a constant, which alone would end the graph."""
    scores, target = geometry.scores(1, 3).requires_grad_(), geometry.labels(1, 3)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = geometry.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result.sum()

    (gradient,) = torch.autograd.grad(loss(scores), scores, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{geometry.kind}_cross_entropy is differentiable once"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="is differentiable once"):
        torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(scores.detach())


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_functional_gradients(geometry: Geometry, reduction: str, device: torch.device) -> None:
    """torch.func.grad, alone, under vmap and over it; and Jacobians of one row at a time."""
    target = geometry.labels(2, 3).to(device)
    stacked = torch.stack([geometry.scores(2, 3, seed=seed) for seed in range(3)]).to(device)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = geometry.head(ops, "cross_entropy", given, target, reduction=reduction)
        return result.sum()

    expected = torch.stack(
        [loss_and_gradient(ops, geometry, s, target, reduction=reduction)[1] for s in stacked]
    )
    near(torch.func.grad(loss)(stacked[0]), expected[0], 1e-6)
    near(torch.vmap(torch.func.grad(loss))(stacked), expected, 1e-6)
    over = torch.func.grad(lambda given: torch.vmap(loss)(given).sum())(stacked)
    near(over, expected, 1e-6)
    row = torch.func.jacrev(lambda given: loss(given).reshape(1))(stacked[0])
    near(row[0], expected[0], 1e-6)


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap(geometry: Geometry, reduction: str, device: torch.device) -> None:
    stacked = torch.stack([geometry.scores(2, 3, seed=s) for s in range(3)], dim=2).to(device)
    targets = torch.stack([geometry.labels(2, 3, seed=s) for s in range(3)], dim=1).to(device)
    weights = torch.rand(3, 3, device=device)

    def loss(scores: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        options = {"reduction": reduction, "weight": weight}
        result: Tensor = geometry.head(ops, "cross_entropy", scores, target, **options)
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
    for geometry in PLAIN:
        scores, target = geometry.scores(2, 3).to(device), geometry.labels(2, 3).to(device)
        leaf = scores.clone().requires_grad_()
        arguments = (leaf, target, *geometry.numbers, None, 255, 0.0, False)
        loss, _, gradient = geometry.op("cross_entropy")(*arguments)
        assert gradient.shape == (0,)
        (3 * loss).backward()
        _, expected = loss_and_gradient(ops, geometry, scores, target, reduction="sum")
        assert leaf.grad is not None
        near(leaf.grad, 3 * expected, 1e-6)


class Calls(TorchDispatchMode):
    """Which passes over the scores were made: with a gradient, or without."""

    def __init__(self) -> None:
        super().__init__()
        self.with_gradient: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.endswith("_cross_entropy"):
            self.with_gradient.append(args[-1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_one_pass(geometry: Geometry, device: torch.device) -> None:
    """The gradient is computed with the loss, and only where it will be asked for."""
    scores, target = geometry.scores(1, 3).to(device), geometry.labels(1, 3).to(device)

    def loss(given: Tensor) -> Tensor:
        result: Tensor = geometry.head(ops, "cross_entropy", given, target)
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


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_one_pass_compiled(geometry: Geometry, device: torch.device) -> None:
    scores, target = geometry.scores(1, 3).to(device), geometry.labels(1, 3).to(device)
    scores.requires_grad_()
    passes: list[list[bool]] = []

    def record(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        op = geometry.op("cross_entropy")
        passes.append([node.args[-1] for node in graph.graph.nodes if node.target == op])
        return make_boxed_func(graph.forward)

    @torch.compile(fullgraph=True, backend=aot_autograd(fw_compiler=record))
    def loss(given: Tensor) -> Tensor:
        result: Tensor = geometry.head(ops, "cross_entropy", 2 * given, target)
        return result

    loss(scores).backward()
    with torch.no_grad():
        loss(scores)
    assert passes == [[True], [], [False]]


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_opcheck(geometry: Geometry, device: torch.device) -> None:
    target = geometry.labels(2, 4).to(device)
    weight = torch.rand(4, device=device)
    for layout, dtype, class_weights in (
        (contiguous, torch.float32, weight),
        (channels_last, torch.bfloat16, None),
        (channels_last, torch.float64, weight.double()),
    ):
        scores = layout(geometry.scores(2, 4, dtype).to(device)).requires_grad_()
        common = (scores, target, *geometry.numbers, class_weights, 255, 0.1)
        for with_gradient in (True, False):
            torch.library.opcheck(geometry.op("cross_entropy"), (*common, with_gradient))
        torch.library.opcheck(geometry.op("cross_entropy_pixels"), common)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        torch.library.opcheck(
            geometry.op("cross_entropy_pixels_backward"),
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
    for geometry in PLAIN:
        target = geometry.labels(1, 3).to(device)
        for dtype in (torch.float32, torch.bfloat16):
            scores = geometry.scores(1, 3, dtype).to(device)
            expected = loss_and_gradient(ops, geometry, scores, target)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                actual = loss_and_gradient(ops, geometry, scores, target)
            assert actual[0].dtype == torch.float32
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


def results(geometry: Geometry, scores: Tensor, target: Tensor) -> list[Tensor]:
    options: list[dict[str, Any]] = [
        {"reduction": "none"},
        {"reduction": "sum", "label_smoothing": 0.1},
        {"reduction": "mean", "weight": torch.linspace(0, 1, scores.shape[1]).to(scores.device)},
    ]
    return [
        tensor
        for given in options
        for tensor in loss_and_gradient(ops, geometry, scores, target, **given)
    ]


LARGER = [
    upsampled((21, 30), 4, offset=(2, 2), fine=(80, 117)),
    interpolated((11, 19), (90, 150)),
    interpolated((20, 31), (77, 101), align_corners=True),
]


@pytest.mark.parametrize("geometry", LARGER, ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_same_bits_twice(geometry: Geometry, layout: Any, device: torch.device) -> None:
    scores, target = layout(geometry.scores(3, 19)).to(device), geometry.labels(3, 19).to(device)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [results(geometry, scores, target) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("geometry", LARGER, ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_threads_change_no_bit(geometry: Geometry, layout: Any, threads: None) -> None:
    scores, target = layout(geometry.scores(3, 19)), geometry.labels(3, 19)
    runs = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        runs.append(results(geometry, scores, target))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
