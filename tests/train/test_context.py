"""Networks that score the mean of the last map, too: the option, and runs of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcn_train.model_options import ModelName, ModelOptions
from fcn_train.network import build_network
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

from .running import assert_same_run, killed

Command = Callable[..., tuple[int, str, str]]


def with_context(options: TrainOptions, name: ModelName, context: bool = True) -> TrainOptions:
    model = replace(options.model, name=name, context=context)
    return replace(options, model=model, optim=replace(options.optim, steps=4))


@pytest.mark.parametrize("name", ["fcn32s", "fcn8s-atonce"])
@pytest.mark.usefixtures("no_pictures")
def test_it_is_trained_saved_and_resumed(
    name: ModelName, tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = with_context(tiny_options, name)
    run = train(replace(options, output=tmp_path / "whole"))
    assert load_run(run).model.state_dict()["score_context.weight"].count_nonzero() > 0
    halved = killed(options, tmp_path / "halved", 4, monkeypatch)
    train(replace(options, output=None), halved)
    assert_same_run(halved, run)


@pytest.mark.parametrize("has_context", [False, True])
@pytest.mark.usefixtures("no_pictures")
def test_stages(
    has_context: bool, tiny_options: TrainOptions, tmp_path: Path, command: Command
) -> None:
    coarser = with_context(tiny_options, "fcn32s", has_context)
    coarser = replace(coarser, optim=replace(coarser.optim, steps=1), output=tmp_path / "32s")
    before = load_run(train(coarser)).model.state_dict()
    finer = with_context(tiny_options, "fcn16s")
    still = replace(finer.optim, steps=1, lr=1e-30)
    finer = replace(finer, optim=still, init_coarser=tmp_path / "32s", output=tmp_path / "16s")
    after = load_run(train(finer)).model.state_dict()
    expected = before.get("score_context.weight", torch.zeros(21, 16, 1, 1))
    torch.testing.assert_close(after["score_context.weight"], expected, rtol=1e-6, atol=1e-20)

    code, _, err = command(
        *("train", "--model", "fcn16s", "--model.width", "0.05", "--model.fc-channels", "16"),
        *("--data.root", tiny_options.data.root, "--data.crop", "32", "--optim.steps", "1"),
        *("--init-coarser", tmp_path / "32s", "--output", tmp_path / "other", "--threads", "1"),
    )
    assert (code == 2) == has_context, err
    if has_context:
        (line,) = err.strip().splitlines()
        assert "32s: does not fit the network: coarser must have no context, as model" in line


@pytest.mark.usefixtures("no_pictures")
def test_it_is_exported(tiny_options: TrainOptions, tmp_path: Path, command: Command) -> None:
    pytest.importorskip("onnxruntime")
    options = replace(with_context(tiny_options, "fcn16s"), output=tmp_path / "run")
    run = train(options)
    # The command runs the file on three sizes, and leaves none that differs.
    code, _, err = command(
        "export", run, "--format", "onnx", "--output", "logits", "--threads", "1"
    )
    assert code == 0, err
    assert (run / "model.onnx").exists()


def test_the_option_makes_it() -> None:
    plain = ModelOptions(name="fcn-squeezenet-8s", width=0.1, fc_channels=0)
    assert not hasattr(build_network(plain, 3), "score_context")
    net = build_network(replace(plain, context=True), {"a": 3, "b": 2})
    assert [head.context for head in net.heads.values()] == [True, True]
