"""Tensors made like a deferred one, which nobody computes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .common import agrees, labels, outcome, scores, up

MADE: dict[str, Callable[[Tensor], Any]] = {
    "of its shape": lambda x: (torch.zeros_like(x), torch.ones_like(x), torch.full_like(x, 2)),
    "of another dtype": lambda x: (
        torch.zeros_like(x, dtype=torch.int64),
        torch.ones_like(x, dtype=torch.bool, device="cpu"),
        torch.full_like(x, 2, dtype=torch.float32),
    ),
    "with a gradient": lambda x: torch.zeros_like(x, requires_grad=True),
    "of another shape": lambda x: (
        (x.new_zeros(3), x.new_ones((2, 2)), x.new_full((2,), 7), x.new_tensor([1, 2])),
        (x.new_zeros((2, 1), dtype=torch.uint8, device="cpu"), x.new_empty((2, 3)).shape),
    ),
    "random": lambda x: (
        (torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 9)),
        (torch.randint_like(x, 2, 9, dtype=torch.int64), torch.rand(2)),
    ),
    "with its strides": lambda x: [
        (torch.empty_like(y).stride(), torch.zeros_like(y), torch.randn_like(y))
        for y in (x.contiguous(memory_format=torch.channels_last), x.permute(0, 2, 3, 1), x[1:])
    ],
    "with other strides": lambda x: (
        torch.zeros_like(x, memory_format=torch.channels_last),
        torch.empty_like(x.mT, memory_format=torch.contiguous_format).stride(),
        x.new_empty_strided((2, 3), (1, 2)).stride(),
    ),
    "of probabilities": lambda x: (torch.zeros_like(x.softmax(1)), x.sigmoid().new_ones(2)),
    "one-hot": lambda x: torch.zeros_like(x).scatter_(1, x.argmax(1, keepdim=True), 1.0),
    "of a gradient": lambda x: [
        torch.zeros_like(gradient)
        for gradient in torch.autograd.grad(F.cross_entropy(x, labels()), x)
    ],
    "elsewhere": lambda x: torch.zeros_like(x, device="meta").device,
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_made(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        torch.manual_seed(0)
        return MADE[name](up(coarse))

    agrees(program, monkeypatch, computed=0, dtype=dtype)


def test_in_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        with torch.inference_mode():
            made = torch.zeros_like(up(coarse))
        return made, made.is_inference()

    agrees(program, monkeypatch, computed=0)


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "a size": lambda x: x.new_zeros(-1),
    "a device": lambda x: torch.zeros_like(x, device="nowhere"),
    "a value": lambda x: x.new_full((2,), "a"),  # type: ignore[arg-type]
    "a dtype": lambda x: torch.rand_like(x, dtype=torch.int32),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_torchs(name: str) -> None:
    plain = outcome(lambda coarse: WRONG[name](up(coarse)), scores(), fused=False)
    ours = outcome(lambda coarse: WRONG[name](up(coarse)), scores(), fused=True)
    assert isinstance(plain, Exception)
    assert (type(ours), str(ours)) == (type(plain), str(plain))
