"""Which options the command line gives, and what is said of one that does not parse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.command_line import parse, train_defaults
from fcn_train.config import load_config
from fcn_train.options import TrainOptions

from .running import assert_one_line

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "--output", ""], "--output"),
        (["train", "--output="], "--output"),
        (["train", "--data.root", ""], "--data.root"),
        (["train", "--init-weights="], "--init-weights"),
        (["train", "--config", ""], "--config"),
        (["train", "--resume="], "--resume"),
        (["evaluate", ""], "RUN"),
        (["evaluate", "run", "--output", ""], "--output"),
        (["predict", "run", "", "--output", "x"], "RUN IMAGE [IMAGE ...]"),
        (["export", "run", "--file", ""], "--file"),
        (["serve", ""], "RUN"),
        (["compare", "one", ""], "RUNS"),
        (["classify", "cat.jpg", "--weights", ""], "--weights"),
        (["describe", "fcn8s", "--picture", ""], "--picture"),
        (["data", "check", "--kind", "folder", "--root="], "--root"),
        (["data", "sample", "--root", ""], "--root"),
        (["study", "label-downsampling", "--data.root="], "--data.root"),
    ],
)
def test_a_path_of_no_characters_is_not_the_current_folder(
    arguments: list[str], name: str, command: Command, in_folder: Path
) -> None:
    # What `--root "$DATA"` is where the variable is not set.
    assert_one_line(command(*arguments), f"{name} must be ", "got ''")
    assert not any(in_folder.iterdir())


def test_a_recipe_of_no_characters_is_not_the_default(command: Command) -> None:
    assert_one_line(command("train", "--recipe", ""), "--recipe: there is no ''")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tarin"],
        ["train", "--optim.lr", "much"],
        ["train", "--resume"],
        ["train", "--model.name", "fcn4s"],
        ["data"],
    ],
)
def test_commands_that_do_not_parse(arguments: list[str], command: Command) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["train"], ["evaluate"], ["predict"], ["recipes"], ["data"], ["data", "check"]],
)
def test_help(arguments: list[str], command: Command) -> None:
    code, out, _ = command(*arguments, "--help")
    assert code == 0
    assert "usage: fcn" in out


def test_help_shows_the_values_of_the_recipe(command: Command) -> None:
    _, out, _ = command("train", "--recipe", "heavy", "--model.name", "fcn16s", "--help")
    assert "(default: 1e-12)" in out
    assert "(default: 0.99)" in out


def parsed(*arguments: str) -> TrainOptions:
    defaults, _ = train_defaults(["train", *arguments])
    options = parse(["train", *arguments], defaults)
    assert isinstance(options, TrainOptions)
    return options


def test_options_override_the_recipe() -> None:
    options = parsed("--recipe", "heavy", "--optim.lr", "1e-9", "--model.no-batch-norm")
    assert options.recipe == "heavy"
    assert (options.optim.lr, options.optim.momentum) == (1e-9, 0.99)


def test_options_override_the_config(finished_run: Path) -> None:
    options = parsed("--config", str(finished_run), "--optim.lr", "0.5")
    saved = load_config(finished_run)
    assert options.optim.lr == 0.5
    assert options.model == saved.model
    assert options.data == saved.data


def test_a_run_that_goes_on_takes_no_config(command: Command, finished_run: Path) -> None:
    result = command("train", "--resume", finished_run, "--config", finished_run)
    assert_one_line(result, "--config has no effect with --resume")


def test_logits_is_an_option_of_training_and_evaluation(command: Command) -> None:
    assert parsed("--logits", "full") == replace(TrainOptions(), logits="full")
    arguments = ["evaluate", "--run", "r"]
    assert parse(arguments, TrainOptions()).logits == "coarse"
    assert parse([*arguments, "--logits", "full"], TrainOptions()).logits == "full"
    code, _, err = command("train", "--logits", "fused")
    assert code == 2
    assert "coarse" in err
    assert "full" in err
    for name in ("train", "evaluate"):
        assert "--logits {coarse,full}" in command(name, "--help")[1]


@pytest.mark.parametrize("option", [["--head", "fused"], ["--head=materialised"]])
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_former_option_names_the_new_one(name: str, option: list[str], command: Command) -> None:
    assert_one_line(command(name, *option), "--head is now --logits: give coarse for fused")


def test_default_is_what_no_argument_gives() -> None:
    assert parsed() == TrainOptions()
