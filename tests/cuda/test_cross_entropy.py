"""The cross-entropy of upsampled scores on a GPU: CPU = CUDA at full sizes, memory, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import losses, ops

from .operands import blocks, needs_memory

pytestmark = pytest.mark.cuda

Loss = Callable[..., Tensor]


def upsample(stride: int, **geometry: Any) -> Loss:
    return lambda input, target, **options: ops.upsample_cross_entropy(
        input, target, stride, **geometry, **options
    )


def interpolate(align_corners: bool = False) -> Loss:
    return lambda input, target, **options: ops.interpolate_cross_entropy(
        input, target, align_corners=align_corners, **options
    )


# The loss, and the shapes of scores and target.
CASES = {
    "VOC s8": (upsample(8, offset=4), (4, 21, 63, 63), (500, 500)),
    "VOC s32": (upsample(32, offset=19), (1, 21, 16, 17), (500, 500)),
    "VOC x16": (interpolate(), (1, 21, 32, 32), (512, 512)),
    "City x4": (interpolate(), (1, 19, 256, 512), (1024, 2048)),
    "ADE x4": (interpolate(), (2, 150, 128, 128), (512, 512)),
    "ADE s2": (upsample(2, offset=1), (1, 150, 65, 65), (128, 128)),
    "847 x4": (interpolate(), (1, 847, 64, 64), (256, 256)),
    "s3": (upsample(3, offset=1), (2, 21, 60, 61), (170, 170)),
    "any size": (interpolate(), (2, 21, 61, 83), (333, 501)),
    "corners": (interpolate(True), (2, 21, 61, 83), (333, 501)),
}


def operands(name: str) -> tuple[Loss, Tensor, Tensor]:
    """Labels are piecewise constant, with void ones among them."""
    loss, shape, size = CASES[name]
    target = blocks((shape[0], *size), min(shape[1], 255))
    target[torch.rand(target.shape) < 0.05] = 255
    return loss, torch.randn(shape) * 4, target.to(torch.uint8)


def relative(actual: Tensor, wanted: Tensor) -> float:
    largest = wanted.double().abs().max().clamp(min=1e-30)
    return float((actual.cpu().double() - wanted.double()).abs().max() / largest)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_those_of_cpu(
    name: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    loss, input, target = operands(name)
    input = input.to(dtype)
    weight = torch.rand(input.shape[1]) + 0.5
    for options in ({}, {"weight": weight, "label_smoothing": 0.1}, {"reduction": "none"}):
        results = []
        for device in ("cpu", "cuda"):
            leaf = input.to(device).contiguous(memory_format=layout).requires_grad_()
            moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
            value = loss(leaf, target.to(device), **moved)
            value.mean().backward()
            assert leaf.grad is not None
            results.append((value.detach(), leaf.grad))
        (cpu, cpu_grad), (cuda, cuda_grad) = results
        assert cuda_grad.stride() == cpu_grad.stride()
        assert relative(cuda, cpu) <= 1e-5
        assert relative(cuda_grad, cpu_grad) <= (2e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("name", CASES)
def test_same_bits_on_every_run(name: str) -> None:
    """However blocks take turns, of which the last ones add up what their neighbors left."""
    loss, input, target = operands(name)
    input, target = input.cuda(), target.cuda()
    results = []
    for _ in range(20):
        leaf = input.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        assert leaf.grad is not None
        results.append((value.detach(), leaf.grad))
    for value, grad in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(grad, results[0][1])


@pytest.mark.parametrize("kind", ["winners", "masked", "nan"])
@pytest.mark.parametrize("name", ["VOC s8", "VOC s32", "City x4", "s3"])
def test_extreme_scores_equal_those_of_cpu(name: str, kind: str) -> None:
    loss, input, target = operands(name)
    if kind == "winners":
        input = torch.where(torch.rand_like(input) < 0.5, 1e4, -1e4)
    elif kind == "masked":
        input[:, ::3] = -torch.inf
        target[target % 3 == 0] = 1
    else:
        input[0, 1, 5, 5] = torch.nan
    leaf, other = input.clone().requires_grad_(), input.cuda().requires_grad_()
    loss(leaf, target, reduction="sum").backward()
    loss(other, target.cuda(), reduction="sum").backward()
    assert leaf.grad is not None
    assert other.grad is not None
    assert torch.equal(other.grad.isnan().cpu(), leaf.grad.isnan())
    assert relative(other.grad.nan_to_num(), leaf.grad.nan_to_num()) <= 2e-5


def test_label_out_of_range_makes_the_loss_nan_and_no_device_assert() -> None:
    for name in ("VOC s8", "s3"):
        loss, input, target = operands(name)
        target[0, 100, 100] = 77
        assert loss(input.cuda(), target.cuda()).isnan()
        torch.cuda.synchronize()


@pytest.mark.parametrize("name", ["VOC s8", "City x4", "ADE x4", "847 x4"])
def test_memory_is_a_fraction_of_the_logits(name: str) -> None:
    """Beside scores, labels and the gradient of the scores, less than a thirtieth of what the
    logits, their softmax and its gradient take."""
    loss, input, target = operands(name)
    leaf, labels = input.cuda().requires_grad_(), target.cuda()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(leaf, labels).backward()
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - before
    eager = 3 * input.element_size() * input.shape[1] * target.numel()
    assert extra <= 3 * input.numel() * input.element_size() + eager / 30


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_hits"])
def test_graphs_capture_and_replay(name: str) -> None:
    """Capture refuses any synchronization."""
    _, input, target = operands("VOC s8")
    scores, labels = input.cuda(), target.cuda()
    arguments = ((8, 16, 4, 4), None, 255, 0.0, True, True)
    operator = getattr(torch.ops.fcn_ext, name)
    operator(scores, labels, *arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = operator(scores, labels, *arguments)
    scores.copy_(torch.randn_like(scores))
    graph.replay()
    for actual, wanted in zip(captured, operator(scores, labels, *arguments), strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("name", ["VOC x16", "City x4", "ADE x4", "847 x4", "any size"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_accuracy_is_that_of_its_own_pass(name: str, reduction: str) -> None:
    _, input, target = operands(name)
    scores, labels = input.cuda().requires_grad_(), target.cuda()
    loss, accuracy = losses.cross_entropy(scores, labels, reduction=reduction, return_accuracy=True)
    assert torch.equal(accuracy, losses.pixel_accuracy(scores, labels))
    assert torch.equal(loss, losses.cross_entropy(scores, labels, reduction=reduction))


def test_more_than_two_to_the_31_logits() -> None:
    needs_memory(4)
    input = torch.randn(10, 847, 128, 128, device="cuda", dtype=torch.float16)
    target = torch.randint(0, 847, (10, 512, 512), device="cuda", dtype=torch.int16)
    whole = ops.interpolate_cross_entropy(input, target, reduction="sum").double()
    parts = [ops.interpolate_cross_entropy(input[n : n + 1], target[n : n + 1]) for n in range(10)]
    mean = torch.stack(parts).double().mean()
    assert abs(float(whole / target.numel() / mean) - 1) <= 1e-5
