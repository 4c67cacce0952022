"""The loop as a whole: what a run does and leaves."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fcn_train import checkpoint, named_losses
from fcn_train.config import load_config
from fcn_train.data import fingerprint
from fcn_train.errors import TrainingError, UsageError
from fcn_train.evaluate import evaluate_run
from fcn_train.history import SCORES, History
from fcn_train.loss import pixel_loss
from fcn_train.options import DataOptions, EvaluateOptions, TrainOptions
from fcn_train.processes import Processes
from fcn_train.run import load_run
from fcn_train.splits import Splits
from fcn_train.train import check_alike, train

from .running import FILES, assert_same_run, killed, longer

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_run_leaves_every_file(finished_run: Path, tiny_options: TrainOptions) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES
    assert replace(load_config(finished_run), output=None) == tiny_options
    with (finished_run / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6, 8]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    with (finished_run / "evaluations.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 6, 8]
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert metrics["steps"] == 8
    assert 0 <= metrics["mean_iu"] <= metrics["pixel_accuracy"] <= 1
    assert len(metrics["classes"]) == 21
    assert [p.name for p in checkpoint.checkpoints(finished_run / "checkpoints")] == [
        "step-000006",
        "step-000008",
    ]


def test_data_that_another_process_does_not_see_is_refused(
    sample_root: Path, one_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = Splits(DataOptions(root=sample_root), pytest.fail)
    own = [fingerprint(splits.train), fingerprint(splits.val)]
    monkeypatch.setattr(one_of_two, "collected", lambda mine: [own, mine])
    check_alike(splits, one_of_two)
    monkeypatch.setattr(one_of_two, "collected", lambda mine: [[own[0], "0"], mine])
    message = rf"val\.txt: the images .* \(fingerprint {own[1]}, there 0\); give all machines"
    with pytest.raises(UsageError, match=message):
        check_alike(splits, one_of_two)


def test_files_name_no_folder_of_the_machine(finished_run: Path) -> None:
    for name in ("environment.json", "metrics.json", "classes.json", "training.csv"):
        assert str(finished_run.parent) not in (finished_run / name).read_text()


def test_loader_processes_change_no_bit(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    options = replace(tiny_options, data=replace(tiny_options.data, workers=1, memory=True))
    assert_same_run(train(replace(options, output=tmp_path / "run")), finished_run)


def test_training_ends_when_the_score_stays(
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = iter([0.2, 0.3, 0.1, 0.3, 0.4])
    add_scores = History.add_scores

    def scripted(self: History, step: int, epoch: float, found: Any) -> None:
        add_scores(self, step, epoch, SimpleNamespace(**dict.fromkeys(SCORES, next(scores))))

    monkeypatch.setattr(History, "add_scores", scripted)
    options = replace(longer(tiny_options, steps=50), patience=2, output=tmp_path / "run")
    run = train(options)
    assert "mean IU has not risen for 2 evaluations, training ends" in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["steps"] == 12
    with (run / "evaluations.csv").open() as file:
        assert [row["mean_iu"] for row in csv.DictReader(file)] == ["0.2", "0.3", "0.1", "0.3"]
    with (run / "training.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)][-1] == 12
    assert checkpoint.step_of(checkpoint.checkpoints(run / "checkpoints")[-1]) == 12
    assert train(load_config(run), run) == run
    assert "finished already" in capsys.readouterr().out


def test_another_seed_gives_another_run(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    run = train(replace(tiny_options, seed=1, output=tmp_path / "run"))
    assert (run / "training.csv").read_text() != (finished_run / "training.csv").read_text()


def test_finished_run_is_left_alone(
    finished_run: Path, tiny_options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished_run / "metrics.json").stat().st_mtime_ns
    assert train(tiny_options, finished_run) == finished_run
    assert "finished already" in capsys.readouterr().out
    assert (finished_run / "metrics.json").stat().st_mtime_ns == before


def test_loss_that_is_not_finite_stops_the_run(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def broken_loss(*arguments: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return pixel_loss(*arguments, **options) * (float("nan") if calls == 10 else 1.0)

    run = tmp_path / "run"
    monkeypatch.setattr(named_losses, "pixel_loss", broken_loss)
    with pytest.raises(TrainingError, match="step 5: the loss is nan on the images tr") as e:
        train(replace(tiny_options, output=run))
    assert "step-000004" in str(e.value)
    saved = checkpoint.load_checkpoint(checkpoint.checkpoints(run / "checkpoints")[-1])
    assert saved.step == 4
    assert all(torch.isfinite(tensor).all() for tensor in saved.weights.values())


def test_training_lowers_the_loss(tiny_options: TrainOptions, tmp_path: Path) -> None:
    optim = replace(tiny_options.optim, steps=24, batch=2, accumulate=1)
    options = replace(tiny_options, optim=optim, evaluate_every=0, output=tmp_path / "run")
    train(options)
    with (tmp_path / "run" / "training.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


@pytest.mark.parametrize(
    "changes", [{"amp": "bf16"}, {"channels_last": True}], ids=["bf16", "channels_last"]
)
def test_precision_and_layout(
    changes: dict[str, Any], tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    options = replace(tiny_options, **changes, output=tmp_path / "run")
    optim = replace(options.optim, steps=3, class_weights="median-frequency", loss="sum", lr=1e-5)
    run = train(replace(options, optim=optim))
    assert load_run(run).model.state_dict()["score_fr.weight"].dtype == torch.float32


def test_cache_changes_no_bit_and_may_change_itself(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(tiny_options.data, cache="20KiB", workers=1)
    run = killed(replace(tiny_options, data=data), tmp_path / "run", 5, monkeypatch)
    options = load_config(run)
    train(replace(options, data=replace(options.data, cache="1MiB", workers=0)), run)
    assert_same_run(run, finished_run)


def test_images_sent_as_bytes_change_no_bit(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path
) -> None:
    data = replace(tiny_options.data, transfer="uint8")
    run = train(replace(tiny_options, data=data, output=tmp_path / "run"))
    assert_same_run(run, finished_run)
    scores = evaluate_run(EvaluateOptions(run, threads=1, output=tmp_path / "out"))
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert float(scores.mean_iu) == metrics["mean_iu"]  # type: ignore[union-attr]
