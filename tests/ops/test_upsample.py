from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops, reference

from .contract import Case, MapContract, assert_near, gradients, maps


def _case(
    shape: tuple[int, ...], stride: int, kernel_size: int | None = None, **window: Any
) -> Case:
    def call(module: Any, input: Tensor) -> Tensor:
        return module.upsample(input, stride, kernel_size=kernel_size, **window)

    def raw(input: Tensor) -> tuple[Any, tuple[Any, ...]]:
        k = kernel_size or (2 * stride if stride > 1 else 1)
        offset = window.get("offset", 0)
        top, left = (offset, offset) if isinstance(offset, int) else offset
        full = [(size - 1) * stride + k for size in input.shape[2:]]
        height, width = window.get("output_size") or (full[0] - top, full[1] - left)
        arguments = (input, stride, k, top, left, height, width)
        return torch.ops.fcn_ext.upsample.default, arguments

    details = "".join(f"-{key}{value}" for key, value in window.items())
    return Case(f"{shape}-s{stride}-k{kernel_size}{details}", (shape,), call, raw)


class TestUpsample(MapContract):
    cases: ClassVar = [
        _case((2, 3, 4, 5), 1),
        _case((1, 2, 3, 4), 1, 2),
        _case((2, 3, 5, 4), 2, offset=1),
        _case((1, 4, 5, 6), 3, offset=(2, 0)),
        _case((2, 2, 4, 5), 4, offset=(3, 5), output_size=(9, 11)),
        _case((1, 3, 6, 5), 8, offset=9, output_size=(31, 30)),
        _case((1, 2, 3, 3), 16, offset=(27, 5), output_size=(1, 40)),
        _case((1, 2, 2, 3), 32, offset=19, output_size=(33, 61)),
        _case((1, 2, 2, 2), 32, 63, offset=18, output_size=(50, 47)),
        _case((1, 2, 1, 1), 5),
        _case((2, 1, 1, 7), 4, 7),
    ]

    def test_backward_op(self, case: Case, device: torch.device) -> None:
        (input,) = maps(case, torch.float32, device)
        _, arguments = case.raw(input)
        grad = torch.randn_like(case.call(ops, input)).requires_grad_()
        torch.library.opcheck(
            torch.ops.fcn_ext.upsample_backward.default,
            (grad, *arguments[1:5], *input.shape[2:]),
        )


def test_known_values() -> None:
    """A single node shows the kernel: Caffe's filler for stride 2, [1 3 3 1] / 4 each way."""
    kernel = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(ops.upsample(torch.ones(1, 1, 1, 1), 2)[0, 0], torch.outer(kernel, kernel))


def test_one_row_of_two_nodes() -> None:
    output = ops.upsample(torch.tensor([[[[4.0, 8.0]]]]), 2, kernel_size=3)
    assert output[0, 0, 1].tolist() == [2.0, 4.0, 6.0, 8.0, 4.0]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, 33), label="stride")
    kernel_size = 2 * stride - data.draw(st.integers(0, 1), label="odd")
    n, c, h, w = (data.draw(st.integers(1, top)) for top in (3, 4, 6, 6))
    full = [(size - 1) * stride + kernel_size for size in (h, w)]
    offset = tuple(data.draw(st.integers(0, size - 1)) for size in full)
    size = tuple(data.draw(st.integers(1, f - o)) for f, o in zip(full, offset, strict=True))
    arguments = {"kernel_size": kernel_size, "offset": offset, "output_size": size}
    input = torch.randn(n, c, h, w, dtype=torch.float64)
    if data.draw(st.booleans(), label="channels_last"):
        input = input.contiguous(memory_format=torch.channels_last)
    case = Case("", (), lambda module, map: module.upsample(map, stride, **arguments), None)  # type: ignore[arg-type]
    expected = case.call(reference, input)
    assert_near(case.call(ops, input), expected, torch.float64)
    grad = torch.randn_like(expected)
    (a,) = gradients(ops, case, [input], grad)
    (e,) = gradients(reference, case, [input], grad)
    assert_near(a, e, torch.float64)


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_large_maps(stride: int, device: torch.device) -> None:
    """Many tiles and rows, in every dtype and layout; test_wide_maps has what leaves the caches."""
    input = torch.randn(1, 3, 700 // stride, 1100 // stride, device=device)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        given = input.to(dtype)
        for map in (given, given.contiguous(memory_format=torch.channels_last)):
            window = {"offset": (1, 3), "output_size": (603, 1001)} if stride > 1 else {}
            assert_near(
                ops.upsample(map, stride, **window),
                reference.upsample(given.double(), stride, **window),
                dtype,
            )


def test_non_finite_values_reach_what_they_touch() -> None:
    """As in the transposed convolution; a zero weight reads nothing."""
    for value in (float("inf"), float("-inf"), float("nan")):
        for stride, kernel_size in ((2, 4), (3, 5), (4, 8), (8, 15)):
            input = torch.zeros(1, 1, 5, 6, dtype=torch.float64)
            input[0, 0, 2, 3] = value
            expected = reference.upsample(input, stride, kernel_size=kernel_size)
            actual = ops.upsample(input, stride, kernel_size=kernel_size)
            assert torch.equal(actual.isfinite(), expected.isfinite())


def test_compiles_once_for_all_sizes(device: torch.device) -> None:
    """Full graph, dynamic shapes, one recompilation at most."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def head(scores: Tensor) -> Tensor:
        return ops.upsample(scores, 8, offset=4)

    for size in (5, 7, 9, 12):
        scores = torch.randn(2, 3, size, size + 1, device=device)
        torch.testing.assert_close(head(scores), ops.upsample(scores, 8, offset=4))
    assert counter.frame_count <= 2


def test_exports_with_dynamic_sizes() -> None:
    class Head(torch.nn.Module):
        def forward(self, scores: Tensor) -> Tensor:
            return ops.upsample(scores, 4, offset=2).relu()

    height, width = torch.export.Dim("height", min=2), torch.export.Dim("width", min=2)
    program = torch.export.export(
        Head(), (torch.randn(1, 3, 6, 7),), dynamic_shapes={"scores": {2: height, 3: width}}
    )
    scores = torch.randn(1, 3, 9, 4)
    torch.testing.assert_close(program.module()(scores), Head()(scores))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": 0}, ValueError, r"stride must be in \[1, 2\*\*30\], got 0"),
        ({"stride": -2}, ValueError, "stride must be"),
        ({"stride": 2.0}, TypeError, "stride must be an integer, got 2.0"),
        ({"stride": 4, "kernel_size": 6}, ValueError, "kernel_size must be .* 8 or 7, got 6"),
        ({"stride": 2, "offset": (-1, 0)}, ValueError, r"offset must be >= 0, got \(-1, 0\)"),
        ({"stride": 2, "offset": (1, 2, 3)}, ValueError, "offset must be an integer or a pair"),
        ({"stride": 2, "offset": 100}, ValueError, "offset must be below the upsampled height 8"),
        ({"stride": 2, "output_size": (3, 0)}, ValueError, "output_size must be >= 1, got 0"),
        ({"stride": 2, "output_size": 99}, ValueError, "offset .* output_size must be at most"),
        ({"stride": 2, "offset": 2**62, "output_size": 2}, ValueError, "must be below"),
        ({"stride": 2**40}, ValueError, "stride must be in"),
        ({"stride": 2**30}, ValueError, "stride must keep the upsampled height at most"),
    ],
)
def test_rejects(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.upsample(torch.zeros(1, 2, 3, 4), **arguments)


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        (
            torch.zeros(2, 3, 4),
            ValueError,
            r"input must have shape \(N, C, H, W\), got \(2, 3, 4\)",
        ),
        (
            torch.zeros(1, 2, 3, 4, dtype=torch.int32),
            ValueError,
            "input must be float32, .* got int32",
        ),
        (torch.zeros(1, 2, 0, 4), ValueError, "at least one row and one column"),
        ([[1.0]], TypeError, "input must be a torch.Tensor, got list"),
    ],
)
def test_rejects_input(input: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.upsample(input, 2)
