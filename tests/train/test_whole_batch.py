"""Batch normalization over processes where there is one: that of torch, and its limit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_train.failures import explain
from fcn_train.whole_batch import GlooBatchNorm


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> GlooBatchNorm:
    """Of one process, whose sums are those of all."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda sums: None)
    return GlooBatchNorm(3)


def test_one_process_alone_is_torchs_own(layer: GlooBatchNorm) -> None:
    plain = nn.BatchNorm2d(3)
    images = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(images), plain(images))
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
