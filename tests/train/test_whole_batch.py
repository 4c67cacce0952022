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
    """Results, gradients and running means, also of values far from zero or all alike."""
    plain = nn.BatchNorm2d(3).to(dtype)
    layer.to(dtype)
    for each in (plain, layer):
        torch.manual_seed(1)
        nn.init.normal_(each.weight)
    images = torch.randn(2, 3, 4, 5, dtype=dtype).to(memory_format=layout)
    for shift, scale in ((0.0, 1.0), (100.0, 1.0), (3.0, 0.0)):
        found = []
        for each in (layer, plain):
            given = (images * scale + shift).requires_grad_()
            made = each(given)
            made.square().mul(images).sum().backward()
            assert made.is_contiguous(memory_format=layout)
            assert given.grad is not None
            gradients = [parameter.grad.clone() for parameter in each.parameters()]
            found.append([made.detach(), given.grad, *gradients])
            each.zero_grad()
        tight = dtype == torch.float64
        torch.testing.assert_close(
            *found, rtol=1e-7 if tight else 1e-3, atol=1e-7 if tight else 2e-3
        )
        torch.testing.assert_close(layer.state_dict(), plain.state_dict())


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
