"""Maps of more than 2**31 elements, where 32-bit arithmetic ends."""

from __future__ import annotations

import os

import pytest
import torch

from fcn_ext import ops

MEMORY = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
enough_memory = pytest.mark.skipif(MEMORY < 8 * 2**30, reason="less than 8 GiB of free memory")


@enough_memory
def test_upsample_to_more_than_2_31_elements() -> None:
    input = torch.randn(1, 130, 128, 128).bfloat16()
    output = ops.upsample(input, 32)
    assert output.numel() > 2**31
    for plane in (0, 126, 129):  # 126 holds element 2**31
        expected = ops.upsample(input[:, plane : plane + 1], 32)
        assert torch.equal(output[:, plane : plane + 1], expected)


def test_gradient_of_more_than_2_31_elements() -> None:
    """Expanded, so that it needs no memory: what `output.sum().backward()` hands over."""
    grad = torch.ones(()).expand(1, 130, 4128, 4128)
    assert grad.numel() > 2**31
    arguments = (32, 64, 0, 0, 128, 128)
    result = torch.ops.fcn_ext.upsample_backward(grad, *arguments)
    one = torch.ops.fcn_ext.upsample_backward(grad[:, :1], *arguments)
    assert torch.equal(result, one.expand_as(result))


def test_count_of_more_than_2_31_pixels() -> None:
    labels = torch.tensor([1], dtype=torch.uint8).expand(3, 30000, 25000)
    matrix = ops.confusion_matrix(labels, labels, 2)
    assert matrix.tolist() == [[0, 0], [0, 3 * 30000 * 25000]]
