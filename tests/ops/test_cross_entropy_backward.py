"""What backward passes of the cross-entropy take: the first one what the forward pass computed, the
others something of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_ext import ops

REDUCTIONS = ("mean", "sum")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
FACTORS = (1.0, 65536.0, -0.3, 0.0)


def problem(
    device: torch.device, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Tensor, Tensor]:
    """Scores that ask for a gradient, and their loss."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, 5, 4, 6, generator=generator).to(device, dtype)
    target = torch.randint(0, 6, (2, 15, 21), generator=generator).to(device)
    leaf = scores.contiguous(memory_format=torch.channels_last).requires_grad_()
    return leaf, ops.cross_entropy(leaf, target, ignore_index=5, **options)


def gradient(device: torch.device, dtype: torch.dtype, reduction: str) -> Tensor:
    """Of the loss alone, before it is narrowed to the dtype of the scores."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    _, loss = problem(device, dtype, reduction=reduction)
    node: Any = loss.grad_fn
    saved: Tensor = node.saved_tensors[0]
    assert saved.dtype == wide
    return saved.clone()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("factor", FACTORS)
def test_what_the_loss_is_multiplied_by(
    device: torch.device, factor: float, reduction: str, dtype: torch.dtype
) -> None:
    leaf, loss = problem(device, dtype, reduction=reduction)
    (factor * loss).backward()
    expected = gradient(device, dtype, reduction)
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype
    assert leaf.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(leaf.grad, (expected * factor).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_passes_do_not_share(device: torch.device, reduction: str, dtype: torch.dtype) -> None:
    leaf, loss = problem(device, dtype, reduction=reduction)
    expected = gradient(device, dtype, reduction)
    for factor in (2.0, 1.0, 3.0, 1.0):
        (grad,) = torch.autograd.grad(factor * loss, leaf, retain_graph=True)
        assert torch.equal(grad, (expected * factor).to(dtype))
        grad.zero_()
    for _ in range(2):
        loss.backward(retain_graph=True)
    near = expected.to(dtype)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, near + near)


def double_backward(loss: Tensor, leaf: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(2 * loss, leaf, create_graph=True)
    return grad


def batched(loss: Tensor, leaf: Tensor) -> Tensor:
    factors = torch.tensor([2.0, 5.0], device=loss.device, dtype=loss.dtype)
    (grads,) = torch.autograd.grad(loss, leaf, factors, is_grads_batched=True, retain_graph=True)
    assert torch.allclose(grads[1], grads[0] / 2 * 5)
    return grads[0]  # type: ignore[no-any-return]


def plain(loss: Tensor, leaf: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(2 * loss, leaf, retain_graph=True)
    return grad


@pytest.mark.parametrize("first", [plain, double_backward, batched])
@pytest.mark.parametrize("then", [plain, double_backward, batched])
def test_passes_of_every_kind_in_turn(
    device: torch.device,
    first: Callable[[Tensor, Tensor], Tensor],
    then: Callable[[Tensor, Tensor], Tensor],
) -> None:
    leaf, loss = problem(device)
    expected = 2 * gradient(device, torch.float32, "mean")
    for take in (first, then, then):
        assert torch.equal(take(loss, leaf), expected)


class OnCpu(torch.autograd.graph.save_on_cpu):
    """Tensors come back as copies."""


class WithGaps(torch.autograd.graph.saved_tensors_hooks):
    """Tensors come back with gaps between their elements."""

    def __init__(self) -> None:
        super().__init__(lambda saved: saved, lambda saved: torch.stack((saved, saved), -1)[..., 0])


@pytest.mark.parametrize("hooks", [OnCpu, WithGaps])
def test_saved_tensors_may_come_back_as_others(
    device: torch.device, hooks: Callable[[], AbstractContextManager[Any]]
) -> None:
    with hooks():
        leaf, loss = problem(device)
    expected = gradient(device, torch.float32, "mean")
    for factor in (1.0, 3.0):
        (grad,) = torch.autograd.grad(factor * loss, leaf, retain_graph=True)
        assert torch.equal(grad, factor * expected)


def test_threads_take_it_once(device: torch.device) -> None:
    leaf, loss = problem(device)
    expected = gradient(device, torch.float32, "mean")
    results: list[Tensor] = []

    def run() -> None:
        for _ in range(20):
            results.extend(torch.autograd.grad(2 * loss, leaf, retain_graph=True))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(torch.equal(result, 2 * expected) for result in results)


class Written(TorchDispatchMode):
    """The operators that an execution calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_plain_pass_copies_nothing(device: torch.device) -> None:
    leaf, loss = problem(device)
    node: Any = loss.grad_fn
    address = node.saved_tensors[0].data_ptr()
    with Written() as written:
        (grad,) = torch.autograd.grad(loss, leaf, torch.ones_like(loss))
    assert grad.data_ptr() == address
    aliases = ("aten.ones_like.default", "aten.detach.default")
    assert [name for name in written.names if name not in aliases] == [
        "fcn_ext.scale_gradient.default"
    ]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("axis", range(4))
def test_an_axis_of_one_element_may_have_any_stride(
    axis: int, layout: torch.memory_format, device: torch.device
) -> None:
    """A gradient is dense with it as torch has it, and as the rules of traced tensors do."""
    size = [1 if k == axis else k + 2 for k in range(4)]
    dense = torch.ones(size, device=device).contiguous(memory_format=layout)
    stride = [777 if k == axis else dense.stride(k) for k in range(4)]
    gradient = dense.as_strided(size, stride)
    torch.ops.fcn_ext.scale_gradient(gradient, torch.tensor(2.0, device=device))
    assert torch.equal(gradient, torch.full_like(gradient, 2))
    torch.ops.fcn_ext.scale_gradient(gradient.to("meta"), torch.tensor(2.0, device="meta"))
