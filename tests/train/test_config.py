"""Options to JSON and back, and files that are not quite options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train.config import from_dict, load_config, to_dict
from fcn_train.errors import UsageError
from fcn_train.options import Logits, TrainOptions
from fcn_train.recipes import recipe_options


@pytest.mark.parametrize("recipe", ["default", "paper", "heavy"])
def test_round_trip(recipe: str, tmp_path: Path) -> None:
    options = recipe_options(recipe, "fcn16s", "voc")  # type: ignore[arg-type]
    options = replace(
        options, init_coarser=Path("runs/a"), data=replace(options.data, root=Path("voc"))
    )
    (tmp_path / "config.json").write_text(json.dumps(to_dict(options)))
    assert load_config(tmp_path) == load_config(tmp_path / "config.json") == options


def test_how_to_run_is_not_saved() -> None:
    options = TrainOptions(output=Path("x"), resume="auto", config=Path("y"), traceback=True)
    assert to_dict(options) == to_dict(TrainOptions())


def test_missing_keys_keep_their_defaults() -> None:
    options = from_dict(TrainOptions, {"model": {"width": 1}}, Path("c.json"))
    assert options == TrainOptions(model=replace(TrainOptions().model, width=1.0))


@pytest.mark.parametrize(
    ("former", "logits"),
    [({}, "coarse"), ({"head": "fused"}, "coarse"), ({"head": "materialised"}, "full")],
)
def test_runs_of_former_options_are_read(
    former: dict[str, str], logits: Logits, tmp_path: Path
) -> None:
    values = to_dict(TrainOptions())
    assert values.pop("logits") == "coarse"
    (tmp_path / "config.json").write_text(json.dumps(values | former))
    assert load_config(tmp_path) == TrainOptions(logits=logits)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"logits": "free"}, "logits must be one of coarse, full, got 'free'"),
        ({"sed": 1}, "c.json: unknown key 'sed'; did you mean 'seed'"),
        ({"optim": {"learning_rate": 1}}, "unknown key 'optim.learning_rate'; did you mean 'optim"),
        ({"model": {"widht": 1}}, "did you mean 'model.width'"),
        ({"seed": "one"}, "seed must be of type int, got 'one'"),
        ({"seed": True}, "seed must be of type int, got True"),
        ({"seed": 1.5}, "seed must be of type int, got 1.5"),
        ({"model": {"name": "fcn64s"}}, "model.name must be one of fcn32s, fcn16s.*got 'fcn64s'"),
        ({"data": {"scale": [1]}}, r"data.scale must be a list of 2 values, got \[1\]"),
        ({"data": []}, r"data must be an object, got \[\]"),
        ({"model": {"skip_scales": None}}, "c.json: model.skip_scales must be a list, got None"),
        ({"model": {"skip_scales": 1.0}}, "c.json: model.skip_scales must be a list, got 1.0"),
        ({"model": {"skip_scales": [None]}}, "skip_scales must be of type float, got None"),
        ({"model": {"mean": None}}, "model.mean must be a list of 3 values, got None"),
        ({"init_weights": ""}, "c.json: init_weights must be a path or null, got ''"),
        ({"output": ""}, "c.json: output must be a path or null, got ''"),
        ([], "the file must be an object"),
    ],
)
def test_bad_values_are_refused(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_dict(TrainOptions, values, Path("c.json"))


def test_files_that_hold_no_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config.json: cannot be read \(No such file"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        load_config(tmp_path)
