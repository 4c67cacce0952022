"""`fcn evaluate RUN` and `fcn evaluate --run RUN`; and what torchrun leaves of our options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.distributed.run import get_args_parser

from fcn_train.command_line import parse
from fcn_train.errors import UsageError
from fcn_train.options import EvaluateOptions, TrainOptions
from fcn_train.run_argument import chosen_run, run_and_rest

Command = Callable[..., tuple[int, str, str]]
RUN, OTHER = Path("run"), Path("other")


def test_either_way_names_the_run() -> None:
    assert chosen_run("evaluate", RUN, None) == RUN
    assert chosen_run("evaluate", None, RUN) == RUN
    assert chosen_run("evaluate", RUN, Path("x/../run")) == RUN
    with pytest.raises(UsageError, match="two runs are given, run and --run other; give one"):
        chosen_run("evaluate", RUN, OTHER)
    with pytest.raises(UsageError, match="give the run folder: fcn evaluate RUN"):
        chosen_run("evaluate", None, None)


def test_first_of_several_arguments_is_the_run(tmp_path: Path, finished_run: Path) -> None:
    images = (tmp_path / "a.png", tmp_path)
    assert run_and_rest("predict", (finished_run, *images), None) == (finished_run, images)
    assert run_and_rest("predict", images, finished_run) == (finished_run, images)
    both = run_and_rest("predict", (finished_run, *images), finished_run)
    assert both == (finished_run, images)
    with pytest.raises(UsageError, match="two runs are given"):
        run_and_rest("predict", (finished_run, *images), OTHER)
    with pytest.raises(UsageError, match="fcn predict RUN"):
        run_and_rest("predict", (), None)


def test_commands_take_the_run_as_an_argument(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    output = ("--output", tmp_path / "out")
    assert command("predict", finished_run, tmp_path / "a.png", *output)[0] == 0
    assert (tmp_path / "out" / "a.png").is_file()
    code, _, err = command("evaluate", finished_run, "--run", tmp_path)
    assert (code, err) == (
        2,
        f"fcn: two runs are given, {finished_run} and --run {tmp_path}; give one\n",
    )
    options = parse(["evaluate", "r", "--tta", "flip", "--batch", "2"], TrainOptions())
    assert isinstance(options, EvaluateOptions)
    assert (options.folder, options.tta, options.batch) == (Path("r"), "flip", 2)


def names(options: Any, prefix: str = "") -> Iterator[str]:
    """The options that a dataclass stands for, as they are given."""
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        name = prefix + item.name.replace("_", "-")
        yield from names(value, f"{name}.") if dataclasses.is_dataclass(value) else [f"--{name}"]


def test_torchrun_leaves_our_options_alone() -> None:
    """Its parser looks at all arguments, and for abbreviations; `--run` alone it cannot read."""
    ours = [*names(TrainOptions()), *names(EvaluateOptions()), "--model", "--no-sync-batch-norm"]
    ours.remove("--run")
    given = [part for name in ours for part in (name, "x")]
    parsed = get_args_parser().parse_args(["-m", "fcn_train", "train", *given])
    assert parsed.training_script == "fcn_train"
    assert parsed.training_script_args == ["train", *given]
    assert not parsed.no_python
