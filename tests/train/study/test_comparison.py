"""What is found of trained variants: tables and curves."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.config import load_config
from fcn_train.console import Console
from fcn_train.errors import UsageError
from fcn_train.options import TrainOptions
from fcn_train.study import comparison as found
from fcn_train.study.comparison import comparison, curve_rows, summary
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.variants import Variant

from .test_variants import trained


def test_a_row_has_means_over_the_seeds() -> None:
    variant = trained(0, 0.0).variant
    runs = [trained(seed, iou, variant=variant) for seed, iou in ((0, 0.2), (1, 0.3))]
    others = [trained(0, 0.9)]
    name, iou, spread, accuracy, steps, images, per_step, seconds, paper = summary(
        variant, runs + others
    )
    assert (name, steps, images, paper) == ("a", 10, 60, 59.4)
    assert iou == pytest.approx(25)
    assert spread == pytest.approx(10)
    assert accuracy == pytest.approx(75)
    assert (per_step, seconds) == (pytest.approx(1.4), pytest.approx(14))


def test_curves_have_a_row_for_each_step() -> None:
    rows = curve_rows(trained(3, 0.2))
    assert rows == [
        ["a", 3, 2, 1.0, 4.0, None, None],
        ["a", 3, 4, 2.0, 3.0, 0.1, 0.5],
        ["a", 3, 7, 8.0, 2.0, None, None],
        ["a", 3, 10, 14.0, 1.0, 0.2, 0.75],
    ]


def test_lines_are_means_over_the_seeds() -> None:
    variant = trained(0, 0.0).variant
    runs = [trained(seed, iou, variant=variant) for seed, iou in ((0, 0.2), (1, 0.4))]
    assert found._mean_lines(runs, "scores", by_time=False) == {
        "a": [(4, pytest.approx(10)), (10, pytest.approx(30))]
    }
    assert found._mean_lines(runs, "losses", by_time=True) == {
        "a": [(1.0, 4.0), (2.0, 3.0), (8.0, 2.0), (14.0, 1.0)]
    }


@pytest.mark.usefixtures("no_pictures")
def test_variants_are_trained_once(tiny: TrainStudyOptions, tmp_path: Path) -> None:
    def both(base: TrainOptions) -> list[Variant]:
        nets = [replace(base, model=replace(base.model, name=n)) for n in ("fcn32s", "fcn16s")]  # type: ignore[arg-type]
        faster = replace(base, optim=replace(base.optim, lr=0.2))
        return [Variant("Staged, 2 nets", tuple(nets), 62.4), Variant("faster", (faster,))]

    run = comparison("A study", "something.", both)
    stream = io.StringIO()
    findings = run(tiny, tmp_path, Console(stream, plain=True))
    assert findings.title == "A study: fcn8s on sample, seeds: 2"
    assert [row[0] for row in findings.rows] == ["Staged, 2 nets", "faster"]
    assert [row[4] for row in findings.rows] == [4, 2]
    assert [row[-1] for row in findings.rows] == [62.4, None]
    assert (tmp_path / "picture.png").exists()
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    staged = {f"staged-2-nets-{seed}-{stage}" for seed in (0, 1) for stage in (1, 2)}
    assert names == staged | {"faster-0", "faster-1"}
    second = load_config(tmp_path / "runs" / "staged-2-nets-1-2")
    assert second.init_coarser == tmp_path / "runs" / "staged-2-nets-1-1"
    assert (second.seed, second.model.name) == (1, "fcn16s")

    header, rows = findings.more["curves"]
    assert header == found.CURVES
    assert [row[2] for row in rows if row[0] == "Staged, 2 nets" and row[1] == 0] == [1, 2, 3, 4]
    logged = tmp_path / "runs" / "faster-1" / "training.csv"
    losses = [float(row["loss"]) for row in csv.DictReader(logged.read_text().splitlines())]
    assert [row[4] for row in rows if row[0] == "faster" and row[1] == 1] == losses
    metrics = json.loads((tmp_path / "runs" / "faster-0" / "metrics.json").read_text())
    other = json.loads((tmp_path / "runs" / "faster-1" / "metrics.json").read_text())
    mean = 50 * (metrics["mean_iu"] + other["mean_iu"])
    assert findings.rows[1][1] == pytest.approx(mean, rel=1e-6)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.json")}
    again = run(tiny, tmp_path, Console(io.StringIO(), plain=True))
    assert again.rows == findings.rows
    assert before == {path: path.stat().st_mtime_ns for path in before}

    with pytest.raises(UsageError, match="holds a run of other options; give another --output"):
        run(replace(tiny, log_every=2), tmp_path, Console(io.StringIO(), plain=True))
