"""Options that no run can have are refused by name."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from fcn_train.errors import UsageError
from fcn_train.optim_options import OptimOptions
from fcn_train.option_rules import check
from fcn_train.options import DataOptions, TrainOptions


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


@pytest.mark.parametrize("channels", ["color", "color-depth", "color-hha"])
def test_streams_are_a_start_of_late_fusion_alone(channels: Any) -> None:
    options = TrainOptions(data=DataOptions(channels=channels), init_streams="color=a,depth=b")
    with pytest.raises(UsageError, match=r"--init-streams needs --model.fusion late, .* got early"):
        check(options)
    check(replace(options, model=replace(options.model, fusion="late")))
