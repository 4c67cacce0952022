"""Heads over crops of fewer pixels than a stride, which lie inside a cell or around a node: what
they take goes by the crop, however large the stride is."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Geometry, Resize


def starts(stride: int, pixels: int) -> list[int]:
    """Where crops begin: at the border, inside a cell, and before a node, up to all of it there."""
    return [0, stride // 2 + 1, 2 * stride - 2 - stride // 2, *range(stride - pixels, stride + 1)]


def assert_matches(scores: Tensor, geometry: Geometry, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, scores.shape[1], (len(scores), *size), generator=generator)
    wide = scores.double().requires_grad_()
    if isinstance(geometry, Resize):
        logits = ops.interpolate(wide, size)
    else:
        logits = ops.upsample(wide, output_size=size, **asdict(geometry))
    expected = F.cross_entropy(logits, target)
    leaf = scores.clone().requires_grad_()
    found = ops.cross_entropy(leaf, target, geometry)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaf)[0].double(),
        torch.autograd.grad(expected, wide, retain_graph=True)[0],
        rtol=1e-4,
        atol=1e-6,
    )
    labels, probability = ops.argmax(
        scores, size, geometry, dtype=torch.int64, return_probability=True
    )
    assert torch.equal(labels, logits.argmax(1))
    torch.testing.assert_close(probability.double(), logits.softmax(1).amax(1), rtol=1e-5, atol=0)
    sums = ops.region_sums(scores, target, geometry)
    torch.testing.assert_close(
        sums.probability.double(), logits.softmax(1).sum((2, 3)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("stride", [5, 8, 13, 40, 2**16, 2**28])
@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_crops_within_a_stride(stride: int, pixels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn((2, 5, 2, 3), generator=generator)
    for kernel_size in (2 * stride, 2 * stride - 1):
        for start in {*starts(stride, pixels)}:
            geometry = Deconvolution(stride, kernel_size, (start, start + stride // 3))
            assert_matches(scores, geometry, (pixels, pixels + 1))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 8), (1, 700), (33, 2)])
def test_one_node(size: tuple[int, int]) -> None:
    """All outputs lie in the two halves of a cell beside it."""
    assert_matches(torch.randn((1, 4, 1, 1)), Resize(), size)
    assert_matches(torch.randn((1, 4, 2, 1)), Resize(), size)
