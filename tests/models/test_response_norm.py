"""Response normalization in half precision, against torch's in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext.models import build_model
from fcn_ext.models.response_norm import LocalResponseNorm

from .common import randomize

HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("largest", [1.0, 300.0, 20000.0])
def test_any_dtype_and_value(dtype: torch.dtype, largest: float, device: torch.device) -> None:
    """Squares of float16 are infinite from 256 on."""
    map = (largest * torch.rand(2, 9, 4, 5)).to(device, dtype).requires_grad_()
    own, theirs = (
        kind(5, alpha=1e-4, beta=0.75) for kind in (LocalResponseNorm, nn.LocalResponseNorm)
    )
    found = own(map)
    assert found.dtype == dtype
    expected = theirs(map.double())
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}.get(dtype, torch.finfo(dtype).eps)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0)
    (gradient,) = torch.autograd.grad(found.sum(), map)
    (of_theirs,) = torch.autograd.grad(expected.sum(), map)
    torch.testing.assert_close(
        gradient.double(), of_theirs.double(), rtol=4 * tolerance, atol=4 * tolerance
    )


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["fcn-alexnet", "fcn-alexnet-8s", "fcn-googlenet-8s"])
def test_nets_in_half_precision(name: str, autocast: bool, dtype: torch.dtype) -> None:
    """Images as Caffe has them, up to 255, whose first maps pass 256."""
    torch.manual_seed(0)
    net = randomize(build_model(name, 5, width=1 / 16, padding="same")).eval()
    images = 255 * torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        expected = net(images)
        if autocast:
            with torch.autocast("cpu", dtype=dtype):
                found = net(images)
        else:
            found = net.to(dtype)(images.to(dtype))
    assert expected.std() > 0
    difference = (found.float() - expected).abs().max()
    assert difference < 0.05 * expected.abs().max()
