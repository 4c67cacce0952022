"""Gradients of a bounded norm, against its definition in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fcn_ext.models import build_model
from fcn_train.clipping import clip_gradients
from fcn_train.errors import LossError
from fcn_train.optim import build_optimizer
from fcn_train.options import OptimOptions
from fcn_train.schedule import Schedule
from fcn_train.state import TrainingState


def net() -> nn.Module:
    """Two layers with gradients, and one without: not every layer has a part in every loss."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(2, 1)])
    for parameter in layers[:2].parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return layers


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.double() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("limit", [1e-3, 2.5])
def test_long_gradients_are_scaled_by_one_factor(limit: float) -> None:
    model = net()
    before = gradients(model)
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in before))
    assert norm > limit
    assert clip_gradients(model.parameters(), limit) == pytest.approx(norm, rel=1e-6)
    for found, gradient in zip(gradients(model), before, strict=True):
        torch.testing.assert_close(found, gradient * (limit / norm), rtol=1e-5, atol=0)


def test_short_gradients_keep_their_bits() -> None:
    model = net()
    before = gradients(model)
    clip_gradients(model.parameters(), 1e6)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model), before, strict=True))
    assert all(parameter.grad is None for parameter in model[2].parameters())  # type: ignore[index]


def test_zero_and_no_gradients_stay() -> None:
    layer = nn.Conv2d(1, 1, 1)
    assert clip_gradients(layer.parameters(), 1.0) == 0
    layer.weight.grad = torch.zeros_like(layer.weight)
    assert clip_gradients(layer.parameters(), 1.0) == 0
    assert layer.weight.grad.item() == 0


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_gradients_without_a_direction_take_no_step(value: float) -> None:
    """The loss may be finite where they are not; clipped, they would spoil every weight."""
    model = build_model("fcn32s", num_classes=3, width=1 / 32, fc_channels=8)
    options = OptimOptions(steps=2, clip_norm=1.0)
    state = TrainingState(
        model, build_optimizer(model, options, torch.device("cpu")), clip_norm=options.clip_norm
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    schedule = Schedule.of(options, 4, evaluate_every=0, checkpoint_every=1)
    with pytest.raises(LossError, match=r"the norm of the gradients is (inf|nan); try a lower"):
        state.update(1.0, 0.1, schedule, 1)
    assert (state.step, state.whole) == (0, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
