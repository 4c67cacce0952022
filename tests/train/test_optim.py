"""Parameter groups, updates and schedules, against their definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fcn_ext.models import build_model
from fcn_train.optim import build_optimizer, lr_factor, parameter_groups, set_lr
from fcn_train.options import OptimOptions
from fcn_train.recipes import recipe_options

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("recipe", "lr", "momentum"), [("paper", 1e-4, 0.9), ("heavy", 1e-14, 0.99)]
)
def test_published_groups(recipe: str, lr: float, momentum: float) -> None:
    options = recipe_options(recipe, "fcn8s").optim  # type: ignore[arg-type]
    model = build_model("fcn8s", num_classes=3, width=0.05, fc_channels=8)
    groups = {group["name"]: group for group in parameter_groups(model, options)}
    assert groups.keys() == {"weights", "biases"}
    assert groups["weights"]["lr"] == lr
    assert groups["weights"]["weight_decay"] == 5e-4
    assert groups["biases"]["lr"] == 2 * lr
    assert groups["biases"]["weight_decay"] == 0
    assert len(groups["weights"]["params"]) == len(groups["biases"]["params"]) == 18
    assert build_optimizer(model, options, CPU).defaults["momentum"] == momentum


def test_every_parameter_is_in_one_group() -> None:
    model = build_model("fcn16s", num_classes=3, width=0.05, fc_channels=8, batch_norm=True)
    options = OptimOptions(lr=0.1, bias_lr=3.0, bias_decay=0.5, weight_decay=0.01)
    groups = parameter_groups(model, options)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    by_name = {group["name"]: group for group in groups}
    assert by_name["norms"]["lr"] == 0.1
    assert by_name["norms"]["weight_decay"] == 0
    assert by_name["biases"]["lr"] == pytest.approx(0.3)
    assert by_name["biases"]["weight_decay"] == pytest.approx(0.005)


def test_step_is_caffes_update() -> None:
    """h = momentum * h + lr * (g + decay * w); w -= h, with the bias at twice the rate."""
    layer = torch.nn.Conv2d(1, 1, 1).double()
    assert layer.bias is not None
    options = OptimOptions(lr=0.1, momentum=0.5, weight_decay=0.01)
    optimizer = build_optimizer(layer, options, CPU)
    weight, bias = layer.weight.item(), layer.bias.item()
    history_w = history_b = 0.0
    for gradient in (1.0, -0.25, 0.5):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        layer.bias.grad = torch.full_like(layer.bias, gradient)
        optimizer.step()
        history_w = 0.5 * history_w + 0.1 * (gradient + 0.01 * weight)
        history_b = 0.5 * history_b + 0.2 * gradient
        weight, bias = weight - history_w, bias - history_b
    assert layer.weight.item() == pytest.approx(weight, abs=1e-12)
    assert layer.bias.item() == pytest.approx(bias, abs=1e-12)


def test_schedules() -> None:
    fixed, poly = OptimOptions(schedule="fixed"), OptimOptions(schedule="poly", power=0.9)
    assert [lr_factor(step, 10, fixed) for step in (0, 5, 9)] == [1, 1, 1]
    assert [lr_factor(step, 10, poly) for step in (0, 5, 9)] == [1, 0.5**0.9, (1 - 9 / 10) ** 0.9]
    warm = replace(fixed, warmup=4)
    assert [lr_factor(step, 10, warm) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_set_lr_keeps_the_ratio_of_the_groups() -> None:
    model = build_model("fcn32s", num_classes=3, width=0.05, fc_channels=8)
    optimizer = build_optimizer(model, OptimOptions(lr=0.2), CPU)
    for factor in (0.5, 0.1):
        set_lr(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == [0.2 * factor, 0.4 * factor]
