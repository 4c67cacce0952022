"""Batch normalization over processes where there is one: that of torch, and its limit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_train.failures import explain
from fcn_train.gloo_batch_norm import GlooBatchNorm


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> GlooBatchNorm:
    """Of one process, whose sums are those of all."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda sums: None)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    return GlooBatchNorm(3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_process_alone_is_torchs_own(
    dtype: torch.dtype, layout: torch.memory_format, layer: GlooBatchNorm
) -> None:
    """In float64: results, gradients and running means, also of values far from zero or alike."""
    plain = nn.BatchNorm2d(3).double()
    layer.to(dtype)
    nn.init.normal_(plain.weight)
    with torch.no_grad():
        layer.weight.copy_(plain.weight)
    images = torch.randn(2, 3, 4, 5).to(dtype, memory_format=layout)
    for shift, scale in ((0.0, 1.0), (100.0, 1.0), (3.0, 0.0)):
        found = []
        for each in (layer, plain):
            given = (images * scale + shift).to(each.weight.dtype).detach().requires_grad_()
            made = each(given)
            made.square().mul(images).sum().backward()
            assert made.is_contiguous(memory_format=layout)
            assert given.grad is not None
            gradients = [parameter.grad.double() for parameter in each.parameters()]
            found.append([made.detach().double(), given.grad.double(), *gradients])
            each.zero_grad()
        tolerance = 1e-9 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
        state = {name: value.double() for name, value in layer.state_dict().items()}
        expected = {name: value.double() for name, value in plain.state_dict().items()}
        torch.testing.assert_close(state, expected, rtol=tolerance, atol=tolerance)


def test_one_value_of_a_channel_has_no_variance(layer: GlooBatchNorm) -> None:
    image = torch.randn(1, 3, 1, 1)
    message = "Expected more than 1 value per channel when training, got 1 of all processes"
    with pytest.raises(ValueError, match=message) as ours:
        layer(image)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel") as torchs:
        nn.BatchNorm2d(3)(image)
    failure = explain(ours.value)
    assert failure == explain(torchs.value)
    assert failure is not None
    assert failure.text.startswith("--optim.batch and --data.crop must leave batch normalization")
    assert failure.code == 2
    assert layer.eval()(torch.randn(1, 3, 1, 1)).shape == (1, 3, 1, 1)
