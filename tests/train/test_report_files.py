"""A report takes the place of an earlier one, and leaves nothing of it beside itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcn_train.report_files import remove_former

Command = Callable[..., tuple[int, str, str]]
SURE = {"expected_calibration_error": 0.1}


def of_sets(**sets: dict[str, Any]) -> dict[str, Any]:
    return {"label_sets": sets}


def of_one(name: str) -> set[str]:
    """The files of a set of labels whose names have ``name`` at their end."""
    tables = {f"{table}{name}.csv" for table in ("per_class", "per_image", "confusion_matrix")}
    return tables | {f"{one}{name}.png" for one in ("per_class", "confusion_matrix", "overlays")}


def sure_of(name: str) -> set[str]:
    return {f"calibration{name}.csv", f"calibration{name}.png"}


MINE = {"notes.txt", "calibration-mine.csv", "per_class-mine.csv", "calibration.json", "x.png"}


@pytest.mark.parametrize(
    ("former", "now", "gone"),
    [
        ({"mean_iu": 0.5, **SURE}, {"mean_iu": 0.5}, sure_of("")),
        ({"mean_iu": 0.5, **SURE}, {"mean_iu": 0.5, **SURE}, set()),
        ({"mean_iu": 0.5}, {"mean_iu": 0.5}, set()),
        (of_sets(a=SURE, b=SURE), of_sets(a={}, b={}), sure_of("-a") | sure_of("-b")),
        (of_sets(a={}, b={}), of_sets(a={}, c={}), of_one("-b")),
        (of_sets(a={}, b={}), {"mean_iu": 0.5}, of_one("-a") | of_one("-b")),
        ({"mean_iu": 0.5, **SURE}, of_sets(a=SURE, b={}), of_one("") | sure_of("")),
        # No report of ours.
        (None, {}, set()),
        ("no JSON", {}, set()),
        ([1], {}, set()),
        ({"label_sets": 3}, {}, set()),
        ({"label_sets": {"/../../out": 3, "": None}}, {"mean_iu": 0.5}, set()),
    ],
)
def test_what_an_earlier_report_had_besides_is_removed(
    former: Any, now: dict[str, Any], gone: set[str], tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    ends = ("", "-a", "-b", "-c")
    names = {name for end in ends for name in of_one(end) | sure_of(end)} | MINE
    for path in (*(folder / name for name in names), tmp_path / "out.csv"):
        path.write_text("")
    if former is not None:
        text = former if isinstance(former, str) else json.dumps(former)
        (folder / "metrics.json").write_text(text)
    remove_former(folder, now)
    left = {path.name for path in folder.iterdir()} - {"metrics.json"}
    assert names - left == gone
    assert (tmp_path / "out.csv").exists()


def test_a_folder_of_that_name_is_left(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(SURE))
    (tmp_path / "calibration.csv").mkdir()
    remove_former(tmp_path, {"mean_iu": 0.5})
    assert (tmp_path / "calibration.csv").is_dir()


def test_evaluation_without_calibration_after_one_with(
    finished_run: Path, command: Command, tmp_path: Path, no_pictures: None
) -> None:
    arguments = ("evaluate", finished_run, "--output", tmp_path)
    assert command(*arguments, "--calibration")[0] == 0
    assert sure_of("") <= {path.name for path in tmp_path.iterdir()}
    (tmp_path / "notes.txt").write_text("mine")
    assert command(*arguments, "--weights", "best")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *of_one(""),
        *("metrics.json", "report.html", "notes.txt"),
    }
    assert json.loads((tmp_path / "metrics.json").read_text())["weights"] == "best"
    assert json.loads((finished_run / "metrics.json").read_text())["weights"] == "last"
