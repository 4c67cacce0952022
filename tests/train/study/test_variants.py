"""The engine of studies that train: runs, times, tables and curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.config import load_config
from fcn_train.console import Console
from fcn_train.data import write_sample_dataset
from fcn_train.data_options import default_splits
from fcn_train.errors import UsageError
from fcn_train.options import OptimOptions, TrainOptions
from fcn_train.schedule import Schedule
from fcn_train.study import variants as engine
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.variants import (
    TimedConsole,
    Trained,
    Variant,
    base_options,
    comparison,
    curve_rows,
    summary,
    train_all,
    train_once,
)

Command = Callable[..., tuple[int, str, str]]


def trained(seed: int, iou: float, *, variant: Variant | None = None) -> Trained:
    """Two stages of 4 and 6 steps, of 0.5 and 2 seconds each."""
    options = TrainOptions(optim=OptimOptions(batch=2, accumulate=3))
    variant = variant or Variant("a", (options, options), 59.4)
    losses = [(2, 4.0), (4, 3.0), (7, 2.0), (10, 1.0)]
    scores = [(4, 0.1, 0.5), (10, iou, 0.75)]
    return Trained(variant, seed, losses, scores, [0.5, 2.0], [4, 6], Path("run"))


def test_time_and_images_are_summed_over_stages() -> None:
    one = trained(0, 0.2)
    assert [one.seconds_at(step) for step in (0, 1, 4, 5, 10)] == [0, 0.5, 2, 4, 14]
    assert one.images == 60


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
    assert engine._mean_lines(runs, "scores", by_time=False) == {
        "a": [(4, pytest.approx(10)), (10, pytest.approx(30))]
    }
    assert engine._mean_lines(runs, "losses", by_time=True) == {
        "a": [(1.0, 4.0), (2.0, 3.0), (8.0, 2.0), (14.0, 1.0)]
    }


def test_steps_are_timed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    timed = TimedConsole(Console(io.StringIO(), plain=True), "cpu")
    monkeypatch.setattr(timed, "_clock", lambda: now[0])
    assert timed.per_step == 0

    def after(seconds: float, count: int) -> None:
        now[0] += seconds
        advance(count)

    with timed.progress("training", 9) as advance:
        for seconds, count in ((2, 1), (3, 1), (50, 0), (7, 0), (9, 1), (3, 1), (2, 1)):
            after(seconds, count)
    with timed.progress("evaluating", 9) as advance:
        after(100, 1)
    assert timed._times == [2, 3, 3, 2]  # but for the step that evaluations came before
    assert timed.per_step == 2.5


@pytest.fixture
def tiny(tiny_options: TrainOptions) -> TrainStudyOptions:
    optim = replace(tiny_options.optim, steps=2)
    return TrainStudyOptions(
        data=tiny_options.data,
        model=tiny_options.model,
        optim=optim,
        log_every=1,
        points=1,
        threads=1,
    )


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
    assert header == engine.CURVES
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


@pytest.mark.usefixtures("no_pictures")
def test_an_unfinished_run_is_gone_on_with(tiny: TrainStudyOptions, tmp_path: Path) -> None:
    options = base_options(tiny)
    console = Console(io.StringIO(), plain=True)
    run = train_once(options, tmp_path / "run", console)
    weights = (run / "last.safetensors").read_bytes()
    (run / "metrics.json").unlink()
    (run / engine.SECONDS).unlink()
    train_once(options, run, console)
    assert (run / "last.safetensors").read_bytes() == weights
    assert (run / engine.SECONDS).exists()


@pytest.mark.parametrize(("batch", "accumulate"), [(1, 1), (8, 1), (4, 5)])
@pytest.mark.parametrize("steps", [0, 50])
def test_all_runs_are_scored_as_often(batch: int, accumulate: int, steps: int) -> None:
    optim = OptimOptions(batch=batch, accumulate=accumulate, steps=steps, epochs=20)
    stage = engine.evaluated(TrainOptions(optim=optim), 5, 320)
    schedule = Schedule.of(
        optim, 320, evaluate_every=stage.evaluate_every, checkpoint_every=1_000_000
    )
    steps = schedule.steps
    scored = [step for step in range(1, steps + 1) if schedule.evaluates_after(step)] + [steps]
    assert scored == [steps * point // 5 for point in (1, 2, 3, 4, 5)]
    assert engine.evaluated(stage, 1, 320).evaluate_every == 0


@pytest.mark.parametrize("option", ["--seeds", "--points"])
def test_mistakes(command: Command, in_folder: Path, option: str) -> None:
    code, _, err = command("study", "loss-sampling", option, "0")
    assert code == 2
    assert f"{option} must be >= 1, got 0" in err


def test_several_sets_of_labels_are_refused(tiny: TrainStudyOptions, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "scenes", train=2, val=2, size=32, layout="sift-flow")
    train_split, val_split = default_splits("sift-flow")
    data = replace(
        tiny.data,
        kind="sift-flow",
        root=root,
        label_folder="SemanticLabels,GeoLabels",
        train_split=train_split,
        val_split=val_split,
    )
    options = replace(tiny, data=data)
    console = Console(io.StringIO(), plain=True)
    with pytest.raises(UsageError, match="a study is of one set of labels: give one folder"):
        train_all([Variant("a", (base_options(options),))], options, tmp_path, console)
