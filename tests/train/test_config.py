"""Options to JSON and back, and files that are not quite options."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from fcn_train.config import from_dict, load_config, to_dict
from fcn_train.errors import UsageError
from fcn_train.optim_options import OptimOptions
from fcn_train.options import Logits, TrainOptions, check
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


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("data", "crop", -1, r"--data.crop must be in \[0, 65536\], got -1"),
        ("data", "crop", 10**7, r"--data.crop must be in \[0, 65536\], got 10000000"),
        ("data", "scale", (2.0, 1.0), "--data.scale must be 0 < low <= high"),
        ("model", "width", 0.0, "--model.width must be > 0, got 0"),
        ("model", "dropout", 1.0, r"--model.dropout must be in \[0, 1\), got 1.0"),
        ("model", "mean", (float("nan"), 1.0, 2.0), r"--model.mean must be in \[0, 255\].*\(nan"),
        ("model", "mean", (0.0, float("inf"), 2.0), r"--model.mean must be in \[0, 255\].*inf"),
        ("model", "mean", (300.0, 0.0, 0.0), r"--model.mean must be in \[0, 255\].*\(300.0"),
        ("model", "mean", (0.0, 0.0, -5.0), r"--model.mean must be in \[0, 255\].*-5.0"),
        ("model", "skip_scales", (float("nan"), 1.0), "--model.skip-scales must be finite"),
        ("model", "skip_scales", (1.0, float("inf")), "--model.skip-scales must be finite"),
        ("optim", "batch", 0, r"--optim.batch must be in \[1, 65536\], got 0"),
        ("optim", "batch", 10**30, r"--optim.batch must be in \[1, 65536\], got 1000"),
        ("optim", "accumulate", 10**30, r"--optim.accumulate must be in \[1, 65536\], got 1000"),
        ("optim", "weight_decay", inf, "--optim.weight-decay must be >= 0 and finite, got inf"),
        ("optim", "bias_lr", inf, "--optim.bias-lr must be >= 0 and finite, got inf"),
        ("optim", "bias_decay", inf, "--optim.bias-decay must be >= 0 and finite, got inf"),
        ("data", "scale", (1.0, inf), "--data.scale must be 0 < low <= high <= 64"),
        ("data", "scale", (1e9, 1e9), "--data.scale must be 0 < low <= high <= 64"),
        ("data", "workers", 10**30, r"--data.workers must be in \[-1, 1024\], got 1000"),
        ("data", "cache", "99999999TiB", "--data.cache must be at most 64 TiB, got '99999999TiB'"),
        ("optim", "lr", float("nan"), "--optim.lr must be > 0 and finite, got nan"),
        ("optim", "momentum", 1.0, r"--optim.momentum must be in \[0, 1\)"),
        ("optim", "score_lr", 0.0, "--optim.score-lr must be > 0 and finite, got 0.0"),
        ("optim", "clip_norm", -1.0, "--optim.clip-norm must be >= 0 and finite, got -1.0"),
        ("optim", "clip_norm", float("inf"), "--optim.clip-norm must be >= 0 and finite, got inf"),
        ("optim", "ema", 1.0, r"--optim.ema must be in \[0, 1\), got 1.0"),
        ("optim", "ema", -0.5, r"--optim.ema must be in \[0, 1\), got -0.5"),
        ("optim", "epochs", 0.0, "--optim.epochs must be > 0 and finite, got 0"),
    ],
)
def test_values_out_of_range_are_refused(part: str, name: str, value: Any, message: str) -> None:
    options = TrainOptions()
    check(options)
    bad = replace(options, **{part: replace(getattr(options, part), **{name: value})})
    with pytest.raises(UsageError, match=message):
        check(bad)


@pytest.mark.parametrize("epochs", [nan, inf, -1.0])
def test_epochs_are_a_number_even_where_steps_go_before_them(epochs: float) -> None:
    # They are saved with the run, and nan is no JSON.
    optim = OptimOptions(steps=5, epochs=epochs)
    with pytest.raises(UsageError, match=r"--optim.epochs must be >= 0 and finite, got"):
        check(TrainOptions(optim=optim))
    check(TrainOptions(optim=replace(optim, epochs=0.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 10**9}, r"--threads must be in \[0, 1024\], got 1000000000"),
        ({"threads": -1}, r"--threads must be in \[0, 1024\], got -1"),
        ({"init_scores_scale": 0.0}, "--init-scores-scale must be > 0 and finite, got 0.0"),
        ({"patience": -1}, "--patience must be >= 0, got -1"),
        ({"patience": 2, "evaluate_every": 0.0}, "--patience must be 0 without evaluations"),
    ],
)
def test_other_values_out_of_range_are_refused(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(replace(TrainOptions(), **values))


@pytest.mark.parametrize(
    "names", list(itertools.combinations(("init_classifier", "init_coarser", "init_weights"), 2))
)
def test_two_sources_of_weights_are_refused(names: tuple[str, str]) -> None:
    given = " and ".join("--" + name.replace("_", "-") for name in names)
    with pytest.raises(UsageError, match=f"{given} exclude each other"):
        check(TrainOptions(**{name: Path("a") for name in names}))
