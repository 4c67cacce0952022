"""Which options the command line gives, and what is said of one that does not parse."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.command_line import parse, parse_study, read, train_defaults
from fcn_train.config import load_config
from fcn_train.data_options import HhaOptions, ReadingOptions
from fcn_train.errors import UsageError
from fcn_train.options import OptimOptions, TrainOptions
from fcn_train.recipes import recipe_options
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.registry import STUDIES

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


@pytest.mark.parametrize(
    ("arguments", "kind", "name"),
    [
        (["train"], OptimOptions, "class_sampling"),
        (["train"], ReadingOptions, "exif"),  # inherited
        (["data", "hha"], HhaOptions, "camera"),
        (["study", "learning"], OptimOptions, "ema"),
    ],
)
def test_help_breaks_lines_at_the_end_of_the_terminal_only(
    arguments: list[str],
    kind: type,
    name: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    text = re.search(rf'{name}: .*\n    """([^"]*)', inspect.getsource(kind))
    assert text is not None
    beginning = " ".join(text[1].split())
    assert len(beginning) > 100  # of more than one line
    _, out, _ = command(*arguments, "--help")
    assert beginning in out


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


TRAINED_STUDIES = [
    name for name, study in STUDIES.items() if isinstance(study.options, TrainStudyOptions)
]


@pytest.mark.parametrize("kind", ["nyud", "sift-flow", "camvid", "voc"])
@pytest.mark.parametrize("name", TRAINED_STUDIES)
def test_a_study_reads_a_kind_of_data_as_a_training_does(name: str, kind: str) -> None:
    options = parse_study([name, "--data.kind", kind])
    assert isinstance(options, TrainStudyOptions)
    own = STUDIES[name].options
    assert isinstance(own, TrainStudyOptions)
    trained = parsed("--data.kind", kind, "--model", own.model.name)
    assert options.data == trained.data
    assert options.model == own.model == trained.model
    rate = own.optim.lr if own.optim.lr != OptimOptions().lr else trained.optim.lr
    assert options.optim == replace(own.optim, lr=rate)


@pytest.mark.parametrize("name", TRAINED_STUDIES)
def test_a_study_without_options_is_its_own(name: str) -> None:
    assert parse_study([name]) == STUDIES[name].options


def test_options_override_those_of_a_studys_data_and_network() -> None:
    flags = ("--data.kind=nyud", "--data.val-split", "val", "--data.crop", "64")
    options = parse_study(["skips", *flags, "--model.name", "fcn-googlenet-8s"])
    assert isinstance(options, TrainStudyOptions)
    assert (options.data.train_split, options.data.val_split) == ("trainval", "val")
    assert options.data.crop == 64
    assert options.model == recipe_options("default", "fcn-googlenet-8s").model


@pytest.mark.parametrize(
    ("command", "option", "needed"),
    [
        ("train", "--optim.power 2", "--optim.schedule poly"),
        ("study augmentation", "--optim.power 2", "--optim.schedule poly"),
        ("train", "--model.mean 1 2 3", "--model.input caffe"),
        ("study skips", "--model.mean 1 2 3", "--model.input caffe"),
        ("train", "--init-scores-scale 0.1", "--init-scores"),
    ],
)
def test_options_that_others_make_void_are_refused(command: str, option: str, needed: str) -> None:
    message = f"^{option.split()[0]} has no effect without {needed}; give that, too, or neither$"
    dashed, *values = option.split()
    for name in (dashed, "--" + dashed[2:].replace("-", "_")):
        with pytest.raises(UsageError, match=message):
            read([*command.split(), name, *values, "--optim.schedule", "fixed"])
    given = [needed, "281=cat"] if needed == "--init-scores" else needed.split()
    read([*command.split(), *option.split(), *given])


@pytest.mark.parametrize("recipe", ["voc-fcn8s-heavy", "pascal-context-fcn8s"])
def test_epochs_that_steps_of_a_recipe_go_before_are_refused(recipe: str) -> None:
    with pytest.raises(UsageError, match=r"--optim.epochs 3 has no effect, as --optim.steps \d+, "):
        read(["train", "--recipe", recipe, "--optim.epochs", "3"])
    options, _ = read(["train", "--recipe", recipe, "--optim.epochs=3", "--optim.steps=0"])
    assert (options.optim.epochs, options.optim.steps) == (3, 0)
    options, _ = read(["train", "--optim.epochs", "3"])
    assert options.optim.epochs == 3
