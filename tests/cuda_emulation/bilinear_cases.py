"""Forward and backward by the resampling engine's CUDA kernels, against the plain reference."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .maps import Map
from .operands import CHANNELS_LAST, CONTIGUOUS, among_nans, check_guards, guarded

if TYPE_CHECKING:
    from .library import Emulation

TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-12,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}


def forward(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    *,
    skip: Tensor | None = None,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> Tensor:
    operands = (input, input.stride(), skip, (input if skip is None else skip).stride())
    return _run(emulation, "bilinear_forward", map, map.output_size, operands, layout, shift)


def backward(
    emulation: Emulation,
    map: Map,
    grad_output: Tensor,
    *,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> Tensor:
    operands = (grad_output, grad_output.stride())
    return _run(emulation, "bilinear_backward", map, map.input_size, operands, layout, shift)


def _run(
    emulation: Emulation,
    name: str,
    map: Map,
    size: tuple[int, int],
    operands: tuple[Any, ...],
    layout: torch.memory_format,
    shift: int,
) -> Tensor:
    input = operands[0]
    batch, channels = input.shape[:2]
    result, memory = guarded((batch, channels, *size), input.dtype, layout, shift)
    geometry = map.geometry(batch, channels)
    channels_last = int(layout == CHANNELS_LAST)
    emulation.call(name, input.dtype, geometry, *operands, result, channels_last)
    check_guards(result, memory)
    return result


def reference_backward(map: Map, grad_output: Tensor) -> Tensor:
    input = torch.zeros(*grad_output.shape[:2], *map.input_size, dtype=torch.float64)
    input.requires_grad_()
    map.reference(input).backward(grad_output.double())
    assert input.grad is not None
    return input.grad


def assert_close(actual: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[actual.dtype]
    atol = tolerance * max(1.0, expected.abs().max().item()) if expected.numel() else tolerance
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=atol)


def check_forward(
    emulation: Emulation,
    map: Map,
    input: Tensor,
    *,
    skip: Tensor | None = None,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> None:
    expected = map.reference(input.double())
    if skip is not None:
        expected = expected + skip.double()
        skip = among_nans(skip, shift)
    output = forward(
        emulation, map, among_nans(input, shift), skip=skip, layout=layout, shift=shift
    )
    assert_close(output, expected)


def check_backward(
    emulation: Emulation,
    map: Map,
    grad_output: Tensor,
    *,
    layout: torch.memory_format = CONTIGUOUS,
    shift: int = 0,
) -> None:
    grad = backward(emulation, map, among_nans(grad_output, shift), layout=layout, shift=shift)
    assert_close(grad, reference_backward(map, grad_output))


def values(
    rng: random.Random,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layout: torch.memory_format = CONTIGUOUS,
) -> Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=layout)
