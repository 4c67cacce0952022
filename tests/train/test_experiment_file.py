"""Recipes as files: what a user's own may hold, and what is said of one that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train.command_line import parse, train_defaults
from fcn_train.config import flat, to_dict
from fcn_train.errors import UsageError
from fcn_train.experiment_file import FOLDER, Start, read_experiment
from fcn_train.options import TrainOptions
from fcn_train.published import EXPERIMENTS, check_start, experiment_options
from fcn_train.recipes import recipe_options

Command = Callable[..., tuple[int, str, str]]


def write(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_published_one_says_only_what_its_rule_does_not(name: str) -> None:
    one = EXPERIMENTS[name]
    assert one.path == FOLDER / f"{name}.json"
    options = experiment_options(name)
    rule = flat(to_dict(recipe_options(one.rule, options.model.name, options.data.kind)))
    said = flat(dict(one.settings))
    assert {"model.name", "data.kind"} <= said.keys()
    assert not [key for key, value in said.items() if rule[key] == value and key not in _ITSELF]


_ITSELF = ("model.name", "data.kind")


def test_a_copy_with_one_change_is_the_same_but_for_it(tmp_path: Path) -> None:
    values = json.loads((FOLDER / "voc-fcn16s-heavy.json").read_text())
    values["settings"]["optim"] = {"lr": 3e-12}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values, indent=4), encoding="utf-8-sig")
    options = experiment_options(str(path))
    expected = experiment_options("voc-fcn16s-heavy")
    assert options == replace(expected, recipe=str(path), optim=replace(expected.optim, lr=3e-12))
    with pytest.raises(UsageError, match=r"mine.json starts from voc-fcn32s-heavy; train it first"):
        check_start(options)


def test_of_nothing_but_a_rule(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", rule="default")
    assert experiment_options(str(path)) == replace(TrainOptions(), recipe=str(path))
    check_start(experiment_options(str(path)))


def test_other_data_keep_what_is_not_of_the_set(tmp_path: Path) -> None:
    data = {"kind": "voc", "root": "VOC2012", "val_split": "mine", "crop": 200, "jitter": 8}
    settings = {"data": data, "model": {"mean": [1, 2, 3], "width": 0.5}, "optim": {"batch": 4}}
    path = write(tmp_path / "mine.json", rule="paper", settings=settings)
    own = experiment_options(str(path))
    assert (own.data.root, own.data.val_split) == (Path("VOC2012"), "mine")
    assert own.model.mean == (1.0, 2.0, 3.0)
    other = experiment_options(str(path), "nyud")
    assert (other.data.root, other.data.val_split) == (None, "test")
    assert (other.data.crop, other.data.jitter) == (200, 8)
    assert other.model.mean == recipe_options("paper", "fcn8s", "nyud").model.mean
    assert (other.model.width, other.optim) == (0.5, own.optim)


def test_it_may_start_from_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "coarse.json", rule="paper", settings={"model": {"name": "fcn32s"}})
    path = write(tmp_path / "fine.json", rule="paper", start={"coarser": "coarse.json"})
    one = read_experiment(path)
    assert one.start == Start(coarser=(tmp_path / "coarse.json").as_posix())
    assert one.start_option == "--init-coarser runs/coarse-001"


@pytest.mark.usefixtures("no_pictures")
def test_it_is_shown_and_trains(command: Command, sample_root: Path, in_folder: Path) -> None:
    settings = {
        "data": {"root": str(sample_root), "crop": 32, "workers": 0},
        "model": {"name": "fcn32s", "width": 0.02, "fc_channels": 8},
        "optim": {"steps": 1, "batch": 1},
        "evaluate_every": 0,
        "threads": 1,
    }
    write(in_folder / "mine.json", rule="default", settings=settings, note="small")
    code, out, err = command("recipes", "mine.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "mine.json: fcn32s, trained on train of sample, scored on val of sample"
    expected = ["published: no score", "starts from: random weights", "note: small"]
    assert lines[1:4] == expected
    assert lines[4] == "run: fcn train --recipe mine.json"
    assert "  --optim.steps 1" in lines
    code, _, err = command("train", "--recipe", "mine.json")
    assert code == 0, err
    run = in_folder / "runs" / "mine-001"
    saved = json.loads((run / "config.json").read_text())
    assert (saved["recipe"], saved["optim"]["steps"]) == ("mine.json", 1)
    (in_folder / "mine.json").unlink()  # which a run that is continued needs no longer
    code, _, err = command("train", "--resume", run, "--optim.steps", "2")
    assert code == 0, err


RULE: dict[str, Any] = {"rule": "paper"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory); give the name of a recipe"),
        ("", "is not JSON ("),
        ("[" * 100_000, "is not JSON ("),
        ('{"rule": "paper", "rule": "heavy"}', "is not JSON (the key 'rule' is given twice)"),
        ([], "the file must be an object, got []"),
        ({}, "must have a rule, one of default, paper, heavy"),
        ({"rule": "light"}, "rule must be one of default, paper, heavy, got 'light'"),
        ({"rules": "paper"}, "unknown key 'rules'; did you mean 'rule'?"),
        ({**RULE, "published": 63}, "published must be an object, got 63"),
        ({**RULE, "published": {"mean_iu": "63"}}, "published.mean_iu must be of type float"),
        ({**RULE, "published": {"mean_iu": 630}}, "published.mean_iu must be in percent, 0 to 100"),
        ({**RULE, "published": {"miou": 63}}, "unknown key 'published.miou'; did you mean"),
        ({**RULE, "start": "VGG16"}, "start must be an object, got 'VGG16'"),
        ({**RULE, "start": {"classifier": ["VGG16"]}}, "start.classifier must be of type str"),
        ({**RULE, "start": {"coarser": "none.json"}}, "start.coarser must be a recipe that"),
        ({**RULE, "start": {"streams": {"hha": "no"}}}, "start.streams.hha must be a recipe that"),
        ({**RULE, "start": {"streams": ["hha"]}}, "start.streams must be an object, got ['hha']"),
        (
            {**RULE, "start": {"classifier": "VGG16", "coarser": "voc-fcn32s-heavy"}},
            "start must be a classifier, a coarser recipe or streams, got classifier and coarser",
        ),
        ({**RULE, "settings": []}, "settings must be an object, got []"),
        ({**RULE, "settings": {"lr": 1}}, "unknown key 'settings.lr'; did you mean"),
        (
            {**RULE, "settings": {"optim": {"lrate": 1}}},
            "unknown key 'settings.optim.lrate'; did you mean 'settings.optim.",
        ),
        ({**RULE, "settings": {"optim": 3}}, "settings.optim must be an object, got 3"),
        ({**RULE, "settings": {"optim": {"lr": "1"}}}, "settings.optim.lr must be of type float"),
        ({**RULE, "settings": {"optim": {"lr": 10**400}}}, "settings.optim.lr must be of type flo"),
        ({**RULE, "settings": {"model": {"name": "fcn4s"}}}, "settings.model.name must be one of"),
        ({**RULE, "settings": {"recipe": "heavy"}}, "settings.recipe is no setting of a recipe"),
        ({**RULE, "settings": {"output": "runs/a"}}, "settings.output is no setting of a recipe"),
        (
            {"rule": "heavy", "settings": {"model": {"name": "fcn-googlenet"}}},
            "--recipe heavy is the reference repository's, which has no fcn-googlenet",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    content: Any, message: str, command: Command, in_folder: Path
) -> None:
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (in_folder / "mine.json").write_text(text)
    for arguments in (("train", "--recipe", "mine.json"), ("recipes", "mine.json")):
        code, _, err = command(*arguments)
        assert code == 2
        assert err.startswith(f"fcn: mine.json: {message}"), err
        assert err.count("\n") == 1
    assert not (in_folder / "runs").exists()


def test_options_go_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", rule="paper", settings={"optim": {"batch": 4}})
    arguments = ["train", "--recipe", str(path), "--optim.batch", "2"]
    options = parse(arguments, train_defaults(arguments)[0])
    assert (options.optim.batch, options.recipe) == (2, str(path))
