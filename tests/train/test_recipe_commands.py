"""What `fcn recipes` shows is what the recipes set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from fcn_train.command_line import parse, train_defaults
from fcn_train.config import from_dict
from fcn_train.options import RecipeName, TrainOptions
from fcn_train.published import EXPERIMENTS, check_start, experiment_options

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_shown_gives_the_same_options(name: str, command: Command) -> None:
    code, out, err = command("recipes", name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")
    flags = [part for line in out.splitlines() if line.startswith("  --") for part in line.split()]
    found = parse(["train", *flags], TrainOptions())
    assert replace(found, recipe=name) == experiment_options(name)
    (shown,) = (line for line in out.splitlines() if line.startswith("run: fcn "))
    arguments = shown.removeprefix("run: fcn ").split()
    options = parse(arguments, train_defaults(arguments)[0])
    check_start(options)
    assert replace(
        options,
        init_classifier=None,
        init_coarser=None,
        init_streams="",
        data=replace(options.data, root=None, val_root=None),
    ) == experiment_options(name)


def test_the_list_shows_all_with_their_scores(command: Command) -> None:
    code, out, err = command("recipes")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    for name, experiment in EXPERIMENTS.items():
        mean_iu = experiment.published.mean_iu
        score = "-" if mean_iu is None else f"{mean_iu:.1f}"
        assert rows[name][-1] == score
        assert float(rows[name][3]) == experiment_options(name).optim.lr


def test_json_says_the_same(command: Command) -> None:
    code, out, err = command("recipes", "--json")
    assert (code, err) == (0, "")
    listed = {one["name"]: one for one in json.loads(out)}
    assert list(listed) == list(EXPERIMENTS)
    for name, one in EXPERIMENTS.items():
        found = listed[name]
        values: dict[str, Any] = {}
        for key, value in found["settings"].items():
            *group, last = key.split(".")
            (values.setdefault(group[0], {}) if group else values)[last] = value
        settings = replace(from_dict(TrainOptions, values, one.path), recipe=name)
        assert settings == experiment_options(name)
        assert found["model"] == settings.model.name
        assert found["train"]["split"] == settings.data.train_split
        assert found["val"]["split"] == settings.data.val_split
        assert found["published"]["mean_iu"] == one.published.mean_iu
        assert found["rule"] == one.rule
        before = found["start"]["streams"] or {"": found["start"]["coarser"]}
        assert [run for run in before.values() if run] == one.before
    name = "nyud-fcn32s-color-hha"
    code, out, err = command("recipes", name, "--json")
    assert (code, json.loads(out), err) == (0, listed[name], "")
    assert listed[name]["start"] == {
        "classifier": None,
        "coarser": None,
        "streams": {"color": "nyud-fcn32s-color", "hha": "nyud-fcn32s-hha"},
    }


def test_json_of_a_file_of_ones_own(command: Command, in_folder: Path) -> None:
    Path("mine.json").write_text('{"rule": "paper", "settings": {"optim": {"lr": 0.5}}}')
    code, out, err = command("recipes", "mine.json", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["file"], found["rule"]) == ("mine.json", "mine.json", "paper")
    assert found["settings"]["optim.lr"] == 0.5
    assert found["published"] == {"mean_iu": None, "source": None}
    Path("mine.json").write_text('{"rule": "paper", "settings": {"optim": {"lr": NaN}}}')
    code, out, err = command("recipes", "mine.json", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["settings"]["optim.lr"] is None  # JSON has no NaN


def test_no_such_recipe_to_show(command: Command) -> None:
    code, _, err = command("recipes", "siftflow-fcn64s")
    assert code == 2
    assert err.startswith("fcn: there is no recipe 'siftflow-fcn64s'; did you mean siftflow-fcn")
    assert err.endswith("s? fcn recipes lists all\n")


@pytest.mark.parametrize("name", get_args(RecipeName))
def test_rules_are_no_experiments(name: str, command: Command) -> None:
    code, _, err = command("recipes", name)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"fcn: {name} is a recipe of fcn train, but no published experiment; ")
