from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops, reference

from .contract import Case, MapContract, assert_near


def _case(
    coarse: tuple[int, ...], skip_size: tuple[int, int], offset: int | tuple[int, int], stride: int
) -> Case:
    def call(module: Any, coarse: Tensor, skip: Tensor) -> Tensor:
        return module.fuse_skip(coarse, skip, offset, stride=stride)

    def raw(coarse: Tensor, skip: Tensor) -> tuple[Any, tuple[Any, ...]]:
        top, left = (offset, offset) if isinstance(offset, int) else offset
        return torch.ops.fcn_ext.fuse_skip.default, (coarse, skip, top, left, stride)

    shapes = (coarse, (*coarse[:2], *skip_size))
    return Case(f"{coarse}-{skip_size}-{offset}-s{stride}", shapes, call, raw)


class TestFuseSkip(MapContract):
    cases: ClassVar = [
        _case((2, 3, 4, 5), (10, 12), 0, 2),
        _case((2, 3, 4, 5), (20, 23), 5, 2),
        _case((1, 4, 3, 6), (30, 40), (9, 3), 2),
        _case((1, 2, 1, 1), (4, 4), 0, 2),
        _case((2, 2, 3, 4), (20, 23), (1, 2), 4),
        _case((1, 2, 3, 4), (9, 9), (0, 5), 1),
        _case((1, 2, 2, 3), (10, 13), (1, 0), 3),
    ]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_window(data: st.DataObject) -> None:
    stride = data.draw(st.sampled_from([1, 2, 3, 4, 8]))
    n, c, h, w = (data.draw(st.integers(1, top)) for top in (2, 3, 5, 5))
    kernel_size = 2 * stride if stride > 1 else 1
    size = [(s - 1) * stride + kernel_size for s in (h, w)]
    offset = (data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4)))
    spare = (data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)))
    coarse = torch.randn(n, c, h, w, dtype=torch.float64)
    skip = torch.randn(
        n, c, size[0] + offset[0] + spare[0], size[1] + offset[1] + spare[1], dtype=torch.float64
    )
    assert_near(
        ops.fuse_skip(coarse, skip, offset, stride=stride),
        reference.fuse_skip(coarse, skip, offset, stride=stride),
        torch.float64,
    )


def test_mixed_layouts_of_coarse_and_skip(device: torch.device) -> None:
    coarse = torch.randn(2, 3, 4, 5, device=device)
    skip = torch.randn(2, 3, 12, 14, device=device)
    expected = ops.fuse_skip(coarse, skip, 1)
    last = torch.channels_last
    for c in (coarse, coarse.contiguous(memory_format=last)):
        for s in (skip, skip.contiguous(memory_format=last)):
            torch.testing.assert_close(ops.fuse_skip(c, s, 1), expected)


def test_only_the_gradient_that_is_asked_for(device: torch.device) -> None:
    coarse = torch.randn(1, 2, 3, 3, device=device)
    skip = torch.randn(1, 2, 9, 9, device=device, requires_grad=True)
    ops.fuse_skip(coarse, skip, (1, 0)).sum().backward()
    assert skip.grad is not None
    assert int(skip.grad.sum()) == 2 * 8 * 8
    assert skip.grad[0, 0, 0].sum() == 0


def test_autocast_meets_in_the_wider_type(device: torch.device) -> None:
    coarse = torch.randn(1, 2, 3, 3, device=device, dtype=torch.bfloat16)
    skip = torch.randn(1, 2, 8, 8, device=device)
    with pytest.raises(ValueError, match="coarse and skip must have the same dtype"):
        ops.fuse_skip(coarse, skip, 0)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = ops.fuse_skip(coarse, skip, 0)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, ops.fuse_skip(coarse.float(), skip, 0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"offset": -1}, ValueError, r"offset must be >= 0, got \(-1, -1\)"),
        ({"offset": (3, 0)}, ValueError, r"skip must hold the upsampled size \(8, 8\) at offset"),
        ({"offset": 2**62}, ValueError, "skip must hold"),
        ({"offset": 0, "stride": 0}, ValueError, "stride must be in"),
        ({"offset": 0, "stride": 4}, ValueError, r"skip must hold the upsampled size \(16, 16\)"),
        ({"offset": None}, TypeError, "offset must be an integer"),
    ],
)
def test_rejects(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.fuse_skip(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 10, 10), **arguments)


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        (torch.zeros(1, 3, 10, 10), "coarse and skip must agree in N and C"),
        (torch.zeros(2, 2, 10, 10), "coarse and skip must agree in N and C"),
        (torch.zeros(1, 2, 10, 10, dtype=torch.float64), "must have the same dtype"),
        (torch.zeros(2, 10, 10), "skip must have shape"),
    ],
)
def test_rejects_skip(skip: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.fuse_skip(torch.zeros(1, 2, 3, 3), skip, 0)
