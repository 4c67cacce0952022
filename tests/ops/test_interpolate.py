from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.geometry import Resize

from .contract import Case, MapContract, assert_near, gradients


def _case(shape: tuple[int, ...], size: tuple[int, int], align_corners: bool) -> Case:
    def call(module: Any, input: Tensor) -> Tensor:
        return module.interpolate(input, size, align_corners=align_corners)

    def raw(input: Tensor) -> tuple[Any, tuple[Any, ...]]:
        return torch.ops.fcn_ext.interpolate.default, (input, *size, align_corners)

    return Case(f"{shape}-{size}-{align_corners}", (shape,), call, raw)


def _window(
    shape: tuple[int, ...],
    uncropped: tuple[int, int],
    offset: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool,
) -> Case:
    geometry = Resize(align_corners, uncropped, offset)

    def call(module: Any, input: Tensor) -> Tensor:
        if module is reference:
            return reference.at_full_size(input, size, geometry)
        return ops.interpolate(input, size, **asdict(geometry))

    def raw(input: Tensor) -> tuple[Any, tuple[Any, ...]]:
        crop = (*uncropped, *offset)
        return torch.ops.fcn_ext.interpolate.default, (input, *size, align_corners, crop)

    return Case(f"{shape}-{uncropped}-{offset}-{size}-{align_corners}", (shape,), call, raw)


class TestInterpolate(MapContract):
    cases: ClassVar = [
        _case((2, 3, 4, 5), (8, 10), False),
        _case((2, 3, 4, 5), (16, 40), False),
        _case((1, 2, 3, 4), (9, 4), False),
        _case((1, 2, 3, 4), (11, 17), True),
        _case((1, 3, 9, 13), (4, 5), False),
        _case((1, 3, 9, 13), (4, 5), True),
        _case((2, 1, 5, 1), (1, 6), True),
        _case((1, 2, 1, 1), (3, 5), False),
        _case((1, 2, 2, 3), (64, 96), False),
        _window((2, 3, 4, 5), (16, 40), (5, 9), (7, 20), False),
        _window((1, 3, 9, 13), (11, 17), (3, 0), (8, 17), True),
        _window((1, 2, 9, 13), (4, 5), (2, 4), (2, 1), False),
    ]

    def test_backward_op(self, case: Case, device: torch.device) -> None:
        input = torch.randn(case.shapes[0], device=device)
        _, arguments = case.raw(input)
        grad = torch.randn_like(case.call(ops, input)).requires_grad_()
        torch.library.opcheck(
            torch.ops.fcn_ext.interpolate_backward.default,
            (grad, *input.shape[2:], *arguments[3:]),
        )


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 4),
    align_corners=st.booleans(),
    channels_last=st.booleans(),
)
def test_any_ratio(sizes: tuple[int, ...], align_corners: bool, channels_last: bool) -> None:
    h, w, *size = sizes
    input = torch.randn(2, 3, h, w, dtype=torch.float64)
    if channels_last:
        input = input.contiguous(memory_format=torch.channels_last)
    case = _case((), (size[0], size[1]), align_corners)
    expected = case.call(reference, input)
    assert_near(case.call(ops, input), expected, torch.float64)
    grad = torch.randn_like(expected)
    (a,) = gradients(ops, case, [input], grad)
    (e,) = gradients(reference, case, [input], grad)
    assert_near(a, e, torch.float64)


@pytest.mark.parametrize("align_corners", [False, True])
def test_identity_keeps_every_bit(align_corners: bool, device: torch.device) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
        input = bits.view(dtype).reshape(1, 1, 256, 256).to(device)
        output = ops.interpolate(input, 256, align_corners=align_corners)
        number = ~input.isnan()
        assert torch.equal(output[number].view(torch.int16), input[number].view(torch.int16))
        assert torch.equal(output.isnan(), input.isnan())


def test_an_infinity_stays_where_it_is_read() -> None:
    """At an exact node only that node is read: no 0 * inf = NaN beside it."""
    input = torch.zeros(1, 1, 3, 3)
    input[0, 0, 1, 1] = float("inf")
    output = ops.interpolate(input, 5, align_corners=True)
    assert not output.isnan().any()
    assert int(output.isinf().sum()) == 9


def test_half_gradients_are_summed_in_float32(device: torch.device) -> None:
    """256 ones into one pixel: half types would stop counting long before."""
    input = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16, device=device, requires_grad=True)
    ops.interpolate(input, (64, 64)).sum().backward()
    assert input.grad is not None
    assert float(input.grad) == 4096.0


def test_compiles_and_exports(device: torch.device) -> None:
    def head(scores: Tensor, image: Tensor) -> Tensor:
        return ops.interpolate(scores, image.shape[-2:], align_corners=False)

    compiled = torch.compile(head, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (17, 23, 40):
        scores = torch.randn(1, 2, 5, 6, device=device, requires_grad=True)
        image = torch.empty(1, 3, size, size + 3, device=device)
        output = compiled(scores, image)
        torch.testing.assert_close(output, head(scores, image))
        output.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, r"size must be in \[1, 2\*\*30\], got \(0, 0\)"),
        ({"size": (4, -1)}, ValueError, r"size must be .* got \(4, -1\)"),
        ({"size": (4, 2**31)}, ValueError, "size must be"),
        ({"size": (4, 5, 6)}, ValueError, "size must be an integer or a pair"),
        ({"size": "big"}, TypeError, "size must be an integer"),
        ({"size": 4, "align_corners": 1}, TypeError, "align_corners must be a bool, got 1"),
        ({"size": 4, "offset": 1}, ValueError, r"uncropped_size must be given .* and \(1, 1\)"),
        (
            {"size": 4, "uncropped_size": 8, "offset": (0, 5)},
            ValueError,
            r"offset \+ size must be at most the uncropped width 8, got 5 \+ 4",
        ),
    ],
)
def test_rejects(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.interpolate(torch.zeros(1, 2, 3, 4), **arguments)
