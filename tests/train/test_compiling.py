"""Compiled steps: what is compiled, what stays, and machines that cannot compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train import compiling
from fcn_train.compiling import compile_steps
from fcn_train.config import load_config
from fcn_train.errors import UsageError
from fcn_train.network import build_network
from fcn_train.option_rules import check
from fcn_train.options import DataOptions, TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

from .running import assert_same_run, killed, longer

CPU = torch.device("cpu")


@pytest.fixture
def options(tiny_options: TrainOptions) -> TrainOptions:
    """The network with the fewest layers: to follow them takes the time."""
    net = replace(tiny_options.model, name="fcn-pool3", fc_channels=0, batch_norm=False)
    return replace(longer(tiny_options, steps=4), model=net, evaluate_every=0)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was given to be compiled; it is run as it is, so with the bits of the plain network."""
    found: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    monkeypatch.setattr(compiling, "BACKEND", backend)
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def test_training_alone_is_compiled_once(options: TrainOptions, graphs: list[Any]) -> None:
    model = build_network(options.model, 5).eval()
    names, parameters = list(model.state_dict()), list(model.named_parameters())
    images = torch.randn(2, 3, 32, 32)
    expected = model.scores(images)
    compile_steps(model, CPU)
    graphs.clear()  # that of the trial
    assert torch.equal(model.scores(images), expected)
    assert not graphs
    model.train()
    for _ in range(2):
        model.loss(images, torch.zeros(2, 32, 32, dtype=torch.uint8)).backward()  # type: ignore[operator]
        assert len(graphs) == 1
    calls = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("conv2d" in call for call in calls) == 8
    assert list(model.state_dict()) == names
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in parameters]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.usefixtures("no_pictures")
def test_killed_run_continues_compiled(
    options: TrainOptions, graphs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that changes no bit it is, bit by bit, the run that was not compiled."""
    expected = train(replace(options, output=tmp_path / "expected"))
    assert not graphs
    options = replace(options, compile=True)
    run = killed(options, tmp_path / "run", 4, monkeypatch)
    assert load_config(run).compile
    torch._dynamo.reset()  # as another process has nothing compiled yet
    train(load_config(run), run)
    assert len(graphs) == 4  # a trial and a network, twice
    assert_same_run(run, expected)
    assert load_run(run).model.state_dict().keys() == load_run(expected).model.state_dict().keys()
    with pytest.raises(UsageError, match="was started with compile = True, not False"):
        train(longer(replace(options, compile=False), steps=5), run)


def test_machine_without_a_compiler(
    tmp_path: Path, sample_root: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """As torch says it, in one line and before anything is written."""
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    try:
        with config.patch({"cpp.cxx": (None, str(tmp_path / "absent"))}):
            code, _, err = command(
                *("train", "--data.root", sample_root, "--output", tmp_path / "run"),
                *("--model.width", "0.05", "--model.fc-channels", "16", "--compile"),
            )
    finally:
        cpp_builder.cpp_compiler_search.cache_clear()
    assert code == 2
    assert err.startswith("fcn: --compile: torch cannot compile here (")
    assert "No working C++ compiler found" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_network_that_cannot_be_compiled_ends_in_one_line(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        if len(list(graph.graph.nodes)) > 5:
            raise RuntimeError("an operation that nobody knows")
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    torch._dynamo.reset()
    with pytest.raises(UsageError, match=r"--compile: .*an operation that nobody knows") as error:
        train(replace(options, compile=True, output=tmp_path / "run"))
    assert "\n" not in str(error.value)
    torch._dynamo.reset()


def test_images_of_any_size_are_refused() -> None:
    check(TrainOptions(compile=True))
    with pytest.raises(UsageError, match=r"--data.crop must be > 0 with --compile.*, got 0"):
        check(TrainOptions(compile=True, data=DataOptions(crop=0)))
