"""Region sums for the CUDA kernels: expected and computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Resize

from .cross_entropy_cases import IGNORE, close
from .maps import Map
from .operands import CONTIGUOUS, LABELS, SCORES, accumulated, check_guards, guarded

if TYPE_CHECKING:
    from .library import Emulation


@dataclass(frozen=True)
class Case:
    map: Map
    squared: bool = False
    losses: bool = False
    weight: Tensor | None = None
    gradient_layout: torch.memory_format = CONTIGUOUS

    def problem(self, input: Tensor, target: Tensor, gradient: Tensor) -> tuple[int, ...]:
        """The ``RegionProblem`` of entry_points/region_sums.cpp."""
        return (
            *(SCORES.index(input.dtype), *self.map.geometry(*input.shape[:2]), *input.stride()),
            *(LABELS.index(target.dtype), *target.stride(), IGNORE, *gradient.stride()),
            int(self.squared),
        )

    def weight_of(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.weight is None else self.weight.to(dtype)


def expected(
    case: Case, input: Tensor, target: Tensor, grad_sums: Tensor, grad_losses: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, losses and gradient in float64."""
    leaf = input.double().requires_grad_()
    full = case.map(leaf)
    found = reference.region_sums(
        full,
        target,
        Resize(),
        weight=case.weight_of(torch.float64),
        squared=True,
        with_loss=True,
    )
    rows = [of for of in found if of is not None]
    sums, losses = torch.stack(rows[: 4 if case.squared else 3]), torch.stack(rows[4:])
    total = (sums * grad_sums.double()).sum()
    if case.losses:
        total = total + (losses[0] * grad_losses[0].double()).sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    return sums.detach(), losses.detach(), gradient


def call(
    emulation: Emulation,
    case: Case,
    input: Tensor,
    target: Tensor,
    grad_sums: Tensor,
    grad_losses: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = accumulated(input.dtype)
    images, classes = input.shape[:2]
    sums, sums_memory = guarded((4 if case.squared else 3, images, classes), torch.float64)
    losses, losses_memory = guarded((2, images), torch.float64)
    gradient, memory = guarded(input.shape, dtype, case.gradient_layout)
    problem = case.problem(input, target, gradient)
    operands = (input, target, case.weight_of(dtype))
    emulation.call("region_sums", problem, *operands, sums, losses if case.losses else None)
    grads = (grad_sums, grad_losses if case.losses else None)
    emulation.call("region_sums_backward", problem, *grads, *operands, gradient)
    check_guards(sums, sums_memory)
    check_guards(losses, losses_memory)
    check_guards(gradient, memory)
    return sums, losses, gradient


def check(emulation: Emulation, case: Case, input: Tensor, target: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    dtype = accumulated(input.dtype)
    images, classes = input.shape[:2]
    grad_sums = torch.randn(
        (4 if case.squared else 3, images, classes), generator=generator, dtype=torch.float64
    ).to(dtype)
    grad_losses = torch.randn((2, images), generator=generator, dtype=torch.float64).to(dtype)
    sums, losses, gradient = call(emulation, case, input, target, grad_sums, grad_losses)
    wanted = expected(case, input, target, grad_sums, grad_losses)
    exact = input.dtype == torch.float64
    pixels = target[0].numel()
    close(sums, wanted[0], 1e-12 if exact else 2e-6, 1e-12 if exact else 2e-6 * pixels)
    assert torch.equal(sums[2], wanted[0][2])
    if case.losses:
        close(losses, wanted[1], 1e-12 if exact else 2e-6)
    readers = max(pixels / input.shape[2:].numel(), 1.0)
    close(gradient, wanted[2], 1e-11 if exact else 1e-5, 1e-11 if exact else 4e-6 * readers)


def side_of(emulation: Emulation, case: Case, input: Tensor, target: Tensor) -> int:
    """The side of a cell of the tile kernels; 0 if the shape goes to the direct kernels."""
    side = torch.zeros(1, dtype=torch.int64)
    emulation.call("region_sums_side", case.problem(input, target, input), side)
    return int(side)
