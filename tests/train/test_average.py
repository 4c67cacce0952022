"""The average of the weights: by its definition, and through a whole run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fcn_train.average import Average
from fcn_train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from fcn_train.config import load_config
from fcn_train.errors import UsageError
from fcn_train.evaluate import evaluate_run
from fcn_train.options import EvaluateOptions, TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

from .running import assert_same_run, killed, longer

Command = Callable[..., tuple[int, str, str]]
DECAY = 0.7


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def moved(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator))
        else:
            value.add_(1)


@pytest.mark.parametrize("updates", [1, 2, 9])
def test_each_step_counts_by_its_age(updates: int) -> None:
    """In float64: sum of decay ** (t - i) * w_i, divided by the sum of the factors."""
    model = net()
    average = Average(model, DECAY)
    total = {name: torch.zeros(()).double() for name in model.state_dict()}
    for step in range(1, updates + 1):
        moved(model, step)
        average.update()
        for name, value in model.state_dict().items():
            total[name] = total[name] + DECAY ** (updates - step) * value.double()
    factors = sum(DECAY**age for age in range(updates))
    found = average.weights()
    assert found.keys() == total.keys()
    assert found.pop("1.num_batches_tracked").item() == updates
    for name, value in found.items():
        torch.testing.assert_close(value.double(), total[name] / factors, rtol=1e-5, atol=1e-6)


def test_what_does_not_move_keeps_its_bits() -> None:
    model = net()
    average = Average(model, 0.999)
    for _ in range(50):
        average.update()
    for name, value in model.state_dict().items():
        assert torch.equal(average.weights()[name], value)


def test_network_has_its_own_weights_again() -> None:
    model = net()
    average = Average(model, DECAY)
    moved(model, 1)
    average.update()
    moved(model, 2)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    inside = average.in_place()
    inside.__enter__()
    for name, value in model.state_dict().items():
        assert torch.equal(value, average.weights()[name])
    assert not inside.__exit__(MemoryError, MemoryError(), None)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("damage", ["no updates", "a name fewer", "another shape", "text"])
def test_state_of_another_network_is_refused(damage: str) -> None:
    average = Average(net(), DECAY)
    state = average.state()
    if damage == "no updates":
        del state["updates"]
    elif damage == "a name fewer":
        del state["weights"]["0.bias"]
    else:
        state["weights"]["0.bias"] = torch.zeros(7) if damage == "another shape" else "zero"
    with pytest.raises((KeyError, TypeError, ValueError)):
        average.restore(state)


@pytest.fixture(scope="module")
def options(tiny_options: TrainOptions) -> TrainOptions:
    """With all else that a step can have beside the paper's rule."""
    return longer(tiny_options, steps=4, ema=0.9, clip_norm=0.5, schedule="cosine", warmup=2)


@pytest.fixture(scope="module")
def averaged_run(options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(replace(options, output=tmp_path_factory.mktemp("averaged") / "run"))


def test_average_is_scored_and_kept(averaged_run: Path) -> None:
    last, raw = (load_file(averaged_run / f"{name}.safetensors") for name in ("last", "last-raw"))
    assert any(not torch.equal(last[name], raw[name]) for name in raw)
    saved = load_checkpoint(checkpoints(averaged_run / "checkpoints")[-1])
    assert all(torch.equal(saved.weights[name], raw[name]) for name in raw)
    assert all(torch.equal(saved.state["average"]["weights"][name], last[name]) for name in last)
    assert (averaged_run / "best-raw.safetensors").exists()
    scores = evaluate_run(EvaluateOptions(averaged_run, threads=1))
    assert (
        float(scores.mean_iu) == json.loads((averaged_run / "metrics.json").read_text())["mean_iu"]
    )


@pytest.mark.usefixtures("no_pictures")
def test_killed_run_continues_with_its_average(
    options: TrainOptions, averaged_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(options, tmp_path / "run", 4, monkeypatch)
    found = load_run(run).model.state_dict()  # of the checkpoint, as the run is not finished
    saved = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert all(torch.equal(saved.state["average"]["weights"][name], found[name]) for name in found)
    raw = load_run(run, "last-raw").model.state_dict()
    assert all(torch.equal(saved.weights[name], raw[name]) for name in raw)
    train(load_config(run), run)
    assert_same_run(run, averaged_run)
    for name in ("last-raw", "best-raw"):
        weights, wanted = (load_file(r / f"{name}.safetensors") for r in (run, averaged_run))
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted)


def test_every_command_takes_the_average_or_the_raw_weights(
    averaged_run: Path, sample_root: Path, command: Command, tmp_path: Path
) -> None:
    image = next((sample_root / "JPEGImages").iterdir())
    for which in ("last", "best-raw"):
        arguments = ("--run", averaged_run, "--weights", which, "--output", tmp_path / which)
        assert command("predict", image, *arguments)[0] == 0


def test_runs_without_an_average_have_no_raw_weights(finished_run: Path) -> None:
    with pytest.raises(UsageError, match=r"trained without --optim.ema.*; use --weights best$"):
        load_run(finished_run, "best-raw")


def test_checkpoint_that_lost_its_average_is_named(averaged_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(averaged_run, tmp_path / "run"))
    (run / "last.safetensors").unlink()
    saved = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    del saved.state["average"]
    save_checkpoint(run / "checkpoints", saved.step, saved.weights, saved.state)
    with pytest.raises(UsageError, match="holds no average of the weights; use --weights last"):
        load_run(run)
