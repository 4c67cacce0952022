"""The engine of studies that train: runs and times."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.data import write_sample_dataset
from fcn_train.data_options import default_splits
from fcn_train.errors import Interrupted, UsageError
from fcn_train.options import OptimOptions, TrainOptions
from fcn_train.report import to_json
from fcn_train.schedule import Schedule
from fcn_train.study import variants as engine
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.variants import (
    TimedConsole,
    Trained,
    Variant,
    base_options,
    train_all,
    train_once,
)
from fcn_train.training import Training

from ..running import assert_one_line

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


@pytest.mark.usefixtures("no_pictures")
def test_what_all_runs_are_warned_of_is_said_once(
    tiny: TrainStudyOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Path(str(tiny.data.root)) / "ImageSets" / "Segmentation" / "train.txt"
    again = tmp_path / "again.txt"  # scored on the images that are trained on
    again.write_text(train.read_text())
    data = replace(tiny.data, val_split=str(again))
    base = base_options(replace(tiny, data=data))
    variants = [Variant("a", (base,)), Variant("b", (base,))]
    train_all(variants, tiny, tmp_path, Console(io.StringIO(), plain=True))
    err = capsys.readouterr().err
    assert err.count("are in") == 1
    assert len(err.splitlines()) == len(set(err.splitlines()))


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


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["evaluate", "report"])
def test_a_signal_after_the_last_step_stops_the_study(
    place: str,
    signum: signal.Signals,
    tiny: TrainStudyOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the time of the steps is kept for whoever goes on without one."""
    base = base_options(replace(tiny, optim=replace(tiny.optim, steps=4)))
    variants = [Variant("a", (base,)), Variant("b", (base,))]
    console = Console(io.StringIO(), plain=True)
    action = getattr(Training, place)

    def signalled(self: Training, *arguments: Any) -> Any:
        signal.raise_signal(signum)
        return action(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Training, place, signalled)
        with pytest.raises(Interrupted) as raised:
            train_all(variants, tiny, tmp_path, console)
    assert raised.value.signum == signum
    seconds = tmp_path / "runs" / "a-0" / engine.SECONDS
    before = seconds.read_bytes()
    assert json.loads(before)["per_step"] > 0
    assert not (tmp_path / "runs" / "b-0").exists()
    assert len(train_all(variants, replace(tiny, seeds=1), tmp_path, console)) == 2
    assert seconds.read_bytes() == before


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


def test_seeds_that_there_cannot_be(command: Command, in_folder: Path, sample_root: Path) -> None:
    words = ("study", "loss-sampling", "--data.root", sample_root)
    many = "9" * 24
    assert_one_line(command(*words, "--seeds", many), f"--seeds must be <= 1000, got {many}")
    told = command(*words, "--seed", str(2**63 - 1))
    assert_one_line(told, f"--seed must be in [0, 2**63), got {2**63}")
    assert not any(in_folder.iterdir())


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_mistakes_of_any_variant_are_found_before_the_first_is_trained(
    place: int,
    stage: int,
    tiny: TrainStudyOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In its options, and in a folder that another study has left."""

    def started(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(engine, "train", started)
    base = base_options(tiny)
    variants = [Variant(name, (base, base)) for name in ("a", "b", "c")]
    console = Console(io.StringIO(), plain=True)
    wrong = [base, base]
    wrong[stage] = replace(base, optim=replace(base.optim, lr=-1.0))
    broken = list(variants)
    broken[place] = Variant("d", tuple(wrong))
    with pytest.raises(UsageError, match=r"--optim.lr must be > 0"):
        train_all(broken, tiny, tmp_path, console)
    other = tmp_path / "runs" / f"{'abc'[place]}-1-{stage + 1}"
    other.mkdir(parents=True)
    (other / "config.json").write_text(to_json(to_dict(replace(base, seed=7))))
    with pytest.raises(UsageError, match=f"{other.name}: holds a run of other options"):
        train_all(variants, tiny, tmp_path, console)


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
