"""float16 with a scaled loss: the gradients of float32, steps that are skipped, and a run's end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fcn_train import named_losses
from fcn_train.checkpoint import checkpoints, load_checkpoint
from fcn_train.config import load_config
from fcn_train.errors import TrainingError
from fcn_train.evaluate import evaluate_run
from fcn_train.loss import pixel_loss
from fcn_train.options import EvaluateOptions, TrainOptions
from fcn_train.precision import LOWEST_SCALE, Scaler
from fcn_train.train import train

from .running import assert_same_run, killed, longer

pytestmark = pytest.mark.usefixtures("no_pictures")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def options(tiny_options: TrainOptions) -> TrainOptions:
    return replace(longer(tiny_options, steps=4, clip_norm=0.5, ema=0.9), amp="fp16")


class Overflow(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


def overflowing(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """From passes of these numbers, or from all, come gradients that are not finite."""
    number = 0

    def loss(*arguments: Any, **more: Any) -> Tensor:
        nonlocal number
        number += 1
        value = pixel_loss(*arguments, **more)
        return Overflow.apply(value) if not calls or number in calls else value  # type: ignore[no-untyped-call,no-any-return]

    monkeypatch.setattr(named_losses, "pixel_loss", loss)


def test_scaled_gradients_are_those_of_the_loss() -> None:
    layer = nn.Linear(3, 2).double()
    inputs = torch.randn(5, 3, dtype=torch.float64)
    layer(inputs).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]  # type: ignore[union-attr]
    layer.zero_grad()
    scaler, optimizer = Scaler(CPU), torch.optim.SGD(layer.parameters(), lr=0.5)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    scaler.scaled(layer(inputs).square().sum()).backward()
    scaler.unscale(optimizer)
    assert scaler.step(optimizer)
    for parameter, old, gradient in zip(layer.parameters(), before, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)
        torch.testing.assert_close(parameter.detach(), old - 0.5 * gradient)


@pytest.mark.parametrize("fused", [False, True])
def test_overflow_is_skipped_until_there_is_no_use_in_it(fused: bool) -> None:
    layer = nn.Linear(2, 1)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    scaler, optimizer = Scaler(CPU), torch.optim.SGD(layer.parameters(), lr=0.5, fused=fused)

    def skip() -> bool:
        optimizer.zero_grad()
        scaler.scaled(Overflow.apply(layer(torch.ones(1, 2))).sum()).backward()  # type: ignore[no-untyped-call]
        scaler.unscale(optimizer)
        return scaler.step(optimizer)

    for skipped in range(1, 31):
        assert not skip()
        assert scaler.skipped == skipped
    assert scaler.state()["scaler"]["scale"] == LOWEST_SCALE
    with pytest.raises(TrainingError, match=r"times 6\.1e-05, and 31 steps were skipped; use"):
        skip()
    assert all(map(torch.equal, layer.parameters(), before))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "x", None])
def test_state_of_something_else_is_refused(scale: Any) -> None:
    state = Scaler(CPU).state()
    state["scaler"]["scale"] = scale
    with pytest.raises((KeyError, TypeError, ValueError)):
        Scaler(CPU).restore(state)


def test_killed_run_continues_with_its_scale(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A step skipped before the kill counts after it, and the bits are those of the whole run."""
    with monkeypatch.context() as patch:
        overflowing(patch, 3)  # two passes per step: in the second
        expected = train(replace(options, output=tmp_path / "expected"))
    assert "1 of 4 steps was skipped" in capsys.readouterr().out
    assert json.loads((expected / "metrics.json").read_text())["skipped_steps"] == 1
    with monkeypatch.context() as patch:
        overflowing(patch, 3)
        run = killed(options, tmp_path / "run", 4, monkeypatch)
    saved = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert saved.state["scaler"]["skipped"] == 1
    assert saved.state["scaler"]["scaler"]["scale"] == 2.0**15
    train(load_config(run), run)
    assert_same_run(run, expected)
    assert all(
        torch.isfinite(value).all() for value in load_file(run / "last.safetensors").values()
    )
    evaluate_run(EvaluateOptions(run, amp="fp16", threads=1, output=tmp_path / "out"))


def test_endless_overflow_ends_the_run(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflowing(monkeypatch)
    options = replace(longer(options, steps=99), evaluate_every=0, checkpoint_every=20)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"^step 31: float16 does not.*step-000020$") as error:
        train(replace(options, output=run))
    assert "\n" not in str(error.value)
    saved = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert all(torch.isfinite(value).all() for value in saved.weights.values())


def test_loss_that_is_not_finite_is_no_overflow(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*arguments: Any, **options: Any) -> Tensor:
        return pixel_loss(*arguments, **options) * float("nan")

    monkeypatch.setattr(named_losses, "pixel_loss", spoiled)
    with pytest.raises(TrainingError, match=r"the loss is nan on .* try .* or --amp bf16"):
        train(replace(options, output=tmp_path / "run"))
