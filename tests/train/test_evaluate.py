"""`fcn evaluate` as the shell sees it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fcn_train.evaluator import Evaluator

Command = Callable[..., tuple[int, str, str]]


def test_command_writes_the_report_and_the_scores_of_training(
    finished_run: Path, command: Command, tmp_path: Path
) -> None:
    code, out, _ = command("evaluate", "--run", finished_run, "--output", tmp_path, "--batch", "2")
    assert code == 0
    assert "3 images of sample, val: mean IU" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "metrics.json",
        "overlays.png",
        "per_class.csv",
        "per_class.png",
        "per_image.csv",
        "report.html",
    }
    trained = json.loads((finished_run / "metrics.json").read_text())
    evaluated = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("pixel_accuracy", "mean_iu", "mean_iu_present", "num_pixels", "classes"):
        assert evaluated[name] == trained[name]


def test_command_scores_another_split(
    finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        *("evaluate", "--run", finished_run, "--split", "train", "--weights", "best"),
        *("--data-kind", "sample", "--data-root", sample_root, "--output", tmp_path),
    )
    assert code == 0
    assert "6 images of sample, train" in out
    assert json.loads((tmp_path / "metrics.json").read_text())["weights"] == "best"


def test_other_classes_are_refused(finished_run: Path, command: Command, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    (tmp_path / "classes.txt").write_text("sky\nland\n")
    code, _, err = command(
        *("evaluate", "--run", finished_run, "--data-kind", "folder"),
        *("--data-root", tmp_path, "--split", ""),
    )
    assert code == 2
    assert "was trained on 21 classes" in err
    assert "has 2; 'background' there is 'sky' here; give a run of the same classes" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", [True, False])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    given: bool,
    finished_run: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    folder = tmp_path / "report" if given else run / "evaluate-val"
    folder.write_text("")
    monkeypatch.setattr(Evaluator, "count", lambda *arguments: pytest.fail("works in vain"))
    flags = ("--output", folder) if given else ()
    code, _, err = command("evaluate", run, *flags)
    said = f"fcn: {folder}: File exists; give a place that can be written\n"
    assert (code, err) == (2, said)
