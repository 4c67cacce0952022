"""Networks that learn their upsampling: the option, runs of them, and weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fcn_ext.models import FCN
from fcn_train.errors import UsageError
from fcn_train.foreign_weights import from_weights
from fcn_train.model_options import ModelOptions
from fcn_train.network import build_network
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

from .running import assert_same_run, killed

Command = Callable[..., tuple[int, str, str]]
PLAIN = ModelOptions(width=0.05, fc_channels=16, batch_norm=False)
NAMES = ("sky", "land", "sea")


def net(upsampling: str, num_classes: int = 3) -> FCN:
    return build_network(replace(PLAIN, upsampling=upsampling), num_classes)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("fixed", ["fixed", "fixed", "fixed"]),
        ("dense", ["dense", "dense", "dense"]),
        ("inner=dense", ["dense", "dense", "fixed"]),
        ("inner=dense, last=depthwise", ["dense", "dense", "depthwise"]),
        ("upscore2=depthwise,upscore8=dense", ["depthwise", "fixed", "dense"]),
    ],
)
def test_kinds_are_given_for_all_layers_or_by_name(text: str, kinds: list[str]) -> None:
    assert list(net(text).head.upsampling.values()) == kinds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learned", r"upsampling must be one of \('fixed', .* got 'learned'"),
        ("", r"upsampling must be one of .* got ''"),
        ("inner=learned", "upsampling must be one of .* got 'learned'"),
        ("upscore16=dense", "layers among upscore2, .*, or inner or last, got 'upscore16'"),
        ("inner=", "each name once, got 'inner='"),
        ("inner=dense,last", "each name once, got 'inner=dense,last'"),
        ("last=dense,last=fixed", "each name once, got 'last=dense,last=fixed'"),
    ],
)
def test_other_kinds_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^--model.*{message}"):
        net(text)


@pytest.mark.usefixtures("no_pictures")
def test_learned_kernels_are_trained_saved_and_resumed(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(tiny_options.model, upsampling="inner=dense,last=depthwise")
    options = replace(tiny_options, model=model, optim=replace(tiny_options.optim, steps=4, lr=0.5))
    run = train(replace(options, output=tmp_path / "whole"))
    start, end = build_network(model, 21).state_dict(), load_run(run).model.state_dict()
    assert start["upscore2.weight"].shape == (21, 21, 4, 4)
    assert start["upscore8.weight"].shape == (21, 1, 16, 16)
    for name in ("upscore2", "upscore_pool4", "upscore8"):
        assert not torch.equal(end[f"{name}.weight"], start[f"{name}.weight"]), name
    halved = killed(options, tmp_path / "halved", 4, monkeypatch)
    train(replace(options, output=None), halved)
    assert_same_run(halved, run)


@pytest.mark.usefixtures("no_pictures")
def test_the_command_takes_the_option(command: Command, sample_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = command(
        *("train", "--model", "fcn16s", "--model.upsampling", "inner=dense"),
        *("--model.skip-scales", "0.5", "--model.width", "0.05", "--model.fc-channels", "16"),
        *("--data.root", sample_root, "--data.crop", "32", "--output", run),
        *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1"),
    )
    assert code == 0, err
    model = load_run(run).model
    assert model.head.upsampling == {"upscore2": "dense", "upscore16": "fixed"}
    assert model.skip_scales == {"pool4": 0.5}


def learned_state(kind: str, num_classes: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {k: torch.rand_like(v) for k, v in net(kind, num_classes).state_dict().items()}


def test_weights_with_trained_kernels_are_tuned(tmp_path: Path) -> None:
    """As the published port has them: dense. Depthwise ones fit a dense layer, too."""
    for kind in ("dense", "depthwise"):
        state = learned_state(kind)
        save_file(state, tmp_path / "w.safetensors")
        model = net("dense")
        said = from_weights(model, tmp_path / "w.safetensors", [NAMES])
        assert "left out" not in said
        assert "initial" not in said
        expected = net(kind)
        expected.load_state_dict(state)
        images = torch.randn(1, 3, 40, 50)
        torch.testing.assert_close(model.eval()(images), expected.eval()(images))


def test_trained_kernels_that_are_left_out_are_named(tmp_path: Path) -> None:
    state = {**learned_state("inner=dense"), **bilinear("upscore8")}
    save_file(state, tmp_path / "w.safetensors")
    said = from_weights(net("fixed"), tmp_path / "w.safetensors", [NAMES])
    assert "upscore8.weight" in said
    assert "(upscore2.weight, upscore_pool4.weight: learned, to be taken with --model." in said
    # Those that mix classes do not fit layers that do not.
    model = net("depthwise")
    said = from_weights(model, tmp_path / "w.safetensors", [NAMES])
    assert "left out: upscore2.weight, upscore_pool4.weight; at" in said
    assert torch.equal(model.upscore8.weight, state["upscore8.weight"])
    assert torch.equal(model.upscore2.weight, net("depthwise").upscore2.weight)


def test_kernels_of_other_classes_start_anew(tmp_path: Path) -> None:
    save_file(learned_state("dense", 5), tmp_path / "w.safetensors")
    model = net("dense")
    said = from_weights(model, tmp_path / "w.safetensors", [NAMES])
    assert "learned" not in said
    for name in ("upscore2", "upscore_pool4", "upscore8"):
        assert f"{name}.weight" in said
        assert torch.equal(getattr(model, name).weight, getattr(net("dense"), name).weight)


def bilinear(name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": getattr(net("depthwise"), name).weight.detach().clone()}
