"""Loss scaling, parameter groups and schedules, against their definitions."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fcn_ext.geometry import Deconvolution
from fcn_ext.models import CoarseScores, build_model
from fcn_train.data import open_dataset
from fcn_train.errors import UsageError
from fcn_train.optim import (
    build_optimizer,
    loss_weights,
    lr_factor,
    parameter_groups,
    pixel_loss,
    set_lr,
    weights_from_file,
)
from fcn_train.options import OptimOptions
from fcn_train.recipes import recipe_options

CPU = torch.device("cpu")
Loss = Callable[..., torch.Tensor]
Pixels = tuple[torch.Tensor, torch.Tensor]


class LogitsAsGiven(CoarseScores):
    """A net whose images are its logits."""

    num_classes, geometry = 4, Deconvolution(1)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.fixture(params=["fused", "materialised"])
def loss(request: pytest.FixtureRequest) -> Loss:
    """pixel_loss of logits, target and so on, by either head."""
    return functools.partial(pixel_loss, LogitsAsGiven(), head=request.param)


@pytest.fixture
def pixels() -> Pixels:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator, dtype=torch.uint8)
    target[0, :2] = 255
    return logits, target


def pixelwise(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """-log softmax at the target of every valid pixel, by its definition."""
    valid = target != 255
    exponentials = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -exponentials.movedim(1, -1)[valid].gather(1, target[valid][:, None].long())[:, 0].log()


def test_mean_divides_by_valid_pixels(loss: Loss, pixels: Pixels) -> None:
    torch.testing.assert_close(loss(*pixels), pixelwise(*pixels).mean())


def test_sum_divides_by_images_alone(loss: Loss, pixels: Pixels) -> None:
    torch.testing.assert_close(loss(*pixels, "sum"), pixelwise(*pixels).sum() / 2)


def test_weighted_mean_divides_by_weights(loss: Loss, pixels: Pixels) -> None:
    logits, target = pixels
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    expected = F.cross_entropy(logits, target.long(), weight, ignore_index=255)
    torch.testing.assert_close(loss(logits, target, "mean", weight), expected)


@pytest.mark.parametrize("weight", [None, torch.ones(4, dtype=torch.float64)])
def test_batch_of_void_has_loss_and_gradient_zero(
    weight: torch.Tensor | None, loss: Loss, pixels: Pixels
) -> None:
    logits = pixels[0].requires_grad_()
    for reduction in ("mean", "sum"):
        value = loss(logits, torch.full_like(pixels[1], 255), reduction, weight)
        value.backward()
        assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_accumulated_sum_is_caffes_iter_size(loss: Loss, pixels: Pixels) -> None:
    """Passes of one image, each divided by their number, add up to the batch's loss."""
    logits, target = pixels
    passes = sum(loss(logits[i : i + 1], target[i : i + 1], "sum") / 2 for i in range(2))
    torch.testing.assert_close(passes, loss(logits, target, "sum"))


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


def test_loss_weights(sample_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    assert loss_weights("none", dataset, CPU) is None
    balanced = loss_weights("median-frequency", dataset, CPU)
    assert balanced is not None
    assert balanced.shape == (21,)
    assert balanced[0] == balanced.min() < 1
    path = tmp_path / "weights.txt"
    path.write_text(", ".join(str(i) for i in range(21)))
    given = loss_weights(str(path), dataset, CPU)
    assert given is not None
    assert given.tolist() == list(range(21))


def test_weights_from_json(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps([1, 0.5, 2]))
    np.testing.assert_array_equal(weights_from_file(path, 3), [1, 0.5, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "must be 3 finite numbers >= 0, got 2"),
        ("1 2 -1", "got 3 with minimum -1"),
        ("1 2 nan", "must be 3 finite numbers"),
        ("1 2 three", "must be a list of numbers"),
    ],
)
def test_bad_weights_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        weights_from_file(path, 3)
    with pytest.raises(UsageError, match="cannot be read"):
        weights_from_file(tmp_path / "absent.txt", 3)
