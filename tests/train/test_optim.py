"""Parameter groups, updates and schedules, against their definitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


@pytest.mark.parametrize(
    ("name", "more", "layers"),
    [
        ("fcn32s", {}, 1),
        ("fcn8s", {"upsampling": "dense"}, 3),
        ("fcn16s", {"streams": ["color", "hha"]}, 4),
    ],
)
def test_score_layers_have_a_rate_of_their_own(
    name: str, more: dict[str, Any], layers: int
) -> None:
    """Those of every skip and stream; learned upsampling is a weight as others."""
    model = build_model(name, num_classes=3, width=0.05, fc_channels=8, batch_norm=True, **more)
    options = OptimOptions(lr=0.1, bias_lr=3.0, score_lr=10.0, bias_decay=0.5, weight_decay=0.01)
    groups = parameter_groups(model, options)
    named = {id(parameter): key for key, parameter in model.named_parameters()}
    by_name = {group["name"]: group for group in groups}
    for sort, rate, decay in [
        ("weights", 0.1, 0.01),
        ("biases", 0.3, 0.005),
        ("norms", 0.1, 0.0),
        ("score weights", 1.0, 0.01),
        ("score biases", 3.0, 0.005),
    ]:
        group = by_name.pop(sort)
        assert (group["lr"], group["weight_decay"]) == pytest.approx((rate, decay))
        keys = [named.pop(id(parameter)) for parameter in group["params"]]
        assert all((".score_" in key) == sort.startswith("score") for key in keys)
        assert not sort.startswith("score") or len(keys) == layers
    assert not by_name
    assert not named  # every parameter was in one group


def test_groups_of_a_plain_rate_are_those_of_earlier_runs() -> None:
    """A checkpoint holds the groups, so runs that knew no rate of the scores still continue."""
    model = build_model("fcn16s", num_classes=3, width=0.05, fc_channels=8)
    groups = parameter_groups(model, OptimOptions(score_lr=1.0))
    assert [group["name"] for group in groups] == ["weights", "biases"]


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


def test_step_is_adamws_update() -> None:
    """Algorithm 2 of Loshchilov and Hutter, with the bias at twice the rate and without decay."""
    layer = torch.nn.Conv2d(1, 1, 1).double()
    assert layer.bias is not None
    options = OptimOptions(method="adamw", lr=0.1, momentum=0.5, weight_decay=0.01)
    optimizer = build_optimizer(layer, options, CPU)
    weight, bias, mean, square = layer.weight.item(), layer.bias.item(), 0.0, 0.0
    for step, gradient in enumerate((1.0, -0.25, 0.5), 1):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        layer.bias.grad = torch.full_like(layer.bias, gradient)
        optimizer.step()
        mean = 0.5 * mean + 0.5 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        update = mean / (1 - 0.5**step) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
        weight -= 0.1 * (update + 0.01 * weight)
        bias -= 0.2 * update
    assert layer.weight.item() == pytest.approx(weight, abs=1e-12)
    assert layer.bias.item() == pytest.approx(bias, abs=1e-12)


def test_schedules() -> None:
    fixed, poly = OptimOptions(schedule="fixed"), OptimOptions(schedule="poly", power=0.9)
    assert [lr_factor(step, 10, fixed) for step in (0, 5, 9)] == [1, 1, 1]
    assert [lr_factor(step, 10, poly) for step in (0, 5, 9)] == [1, 0.5**0.9, (1 - 9 / 10) ** 0.9]
    warm = replace(fixed, warmup=4)
    assert [lr_factor(step, 10, warm) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_cosine_falls_from_one_to_nothing() -> None:
    """Equation 5 of SGDR, 10 steps long: half a wave, its middle at step 5."""
    cosine = OptimOptions(schedule="cosine")
    factors = [lr_factor(step, 10, cosine) for step in range(11)]
    assert factors[0] == 1
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == lr_factor(11, 10, cosine) == 0
    assert factors == sorted(factors, reverse=True)
    assert [a + b for a, b in zip(factors, factors[::-1], strict=True)] == pytest.approx([1.0] * 11)
    warm = replace(cosine, warmup=4)
    ramp = [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [lr_factor(step, 10, warm) for step in range(5)] == [
        up * down for up, down in zip(ramp, factors, strict=False)
    ]


def test_set_lr_keeps_the_ratio_of_the_groups() -> None:
    model = build_model("fcn32s", num_classes=3, width=0.05, fc_channels=8)
    optimizer = build_optimizer(model, OptimOptions(lr=0.2), CPU)
    for factor in (0.5, 0.1):
        set_lr(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == [0.2 * factor, 0.4 * factor]
