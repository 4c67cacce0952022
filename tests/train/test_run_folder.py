"""Folders of runs: their numbers, and how one is found and continued."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train.errors import UsageError, WriteError
from fcn_train.options import TrainOptions
from fcn_train.run_folder import RunFolder, check_continuation, find_run, new_run_folder


def test_numbers_go_on_after_the_highest(in_folder: Path) -> None:
    assert new_run_folder(None, "voc-fcn8s").path == Path("runs/voc-fcn8s-001")
    for name in (
        "voc-fcn8s-007",
        "voc-fcn8s-99",
        "voc-fcn8s-x12",
        "voc-fcn8s-",
        "voc-fcn8s-atonce-050",
    ):
        Path("runs", name).mkdir()
    for name in ("voc-fcn8s-008 (copy)", "voc-fcn8s-\u0661\u0662\u0663", "voc-fcn8s--100"):
        Path("runs", name).mkdir()
    Path("runs/voc-fcn8s-008").touch()  # a file takes a name, too
    assert new_run_folder(None, "voc-fcn8s").path == Path("runs/voc-fcn8s-009")
    Path("runs/voc-fcn8s-999").mkdir()
    for number in (1000, 1001):
        assert new_run_folder(None, "voc-fcn8s").path == Path(f"runs/voc-fcn8s-{number}")


def test_starts_at_once_get_folders_of_their_own(in_folder: Path) -> None:
    found: list[Path] = []
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait()
        found.extend(new_run_folder(None, "sample-fcn8s").path for _ in range(5))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 40


def test_folder_that_cannot_be_made(in_folder: Path) -> None:
    Path("runs").touch()
    with pytest.raises(WriteError, match=r"^runs: File exists; give a place that can be written"):
        new_run_folder(None, "sample-fcn8s")
    with pytest.raises(WriteError, match="runs/mine: Not a directory"):
        new_run_folder(Path("runs/mine"), "sample-fcn8s")


def test_given_folder_that_holds_a_run(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a run already; continue it with --resume auto"):
        new_run_folder(finished_run, "x")
    assert new_run_folder(tmp_path, "x") == RunFolder(tmp_path)


def test_resume_finds_the_newest_unfinished_run(in_folder: Path, finished_run: Path) -> None:
    assert find_run("auto", None) is None
    assert find_run("auto", in_folder / "nothing") is None
    assert find_run("auto", finished_run) == finished_run
    with pytest.raises(UsageError, match="is no run folder"):
        find_run("elsewhere", None)
    for number in (1, 2):
        run = Path(shutil.copytree(finished_run, f"runs/sample-fcn8s-00{number}"))
        (run / "metrics.json").unlink()
        (run / "checkpoints").touch()
    assert find_run("auto", None) == Path("runs/sample-fcn8s-002")
    shutil.copy(finished_run / "metrics.json", "runs/sample-fcn8s-002")
    assert find_run("auto", None) == Path("runs/sample-fcn8s-001")


def test_path_to_continue_is_quoted() -> None:
    expected = RunFolder(Path("my runs/1")).continue_with
    assert expected == "continue with: fcn train --resume 'my runs/1'"


def test_resume_refuses_another_configuration(
    finished_run: Path, tiny_options: TrainOptions
) -> None:
    technical = replace(tiny_options, threads=2, log_every=1)
    assert not check_continuation(finished_run, technical)
    with pytest.raises(UsageError, match="logits = 'coarse', not 'full'"):
        check_continuation(finished_run, replace(tiny_options, logits="full"))
    with pytest.raises(UsageError, match=r"model\.width = 0\.05, not 0\.1"):
        check_continuation(
            finished_run, replace(tiny_options, model=replace(tiny_options.model, width=0.1))
        )


@pytest.mark.parametrize(
    ("changes", "further"),
    [({}, False), ({"steps": 9}, True), ({"steps": 7}, None), ({"steps": 0, "epochs": 40.0}, True)],
)
def test_run_is_made_longer_and_not_shorter(
    changes: dict[str, Any], further: bool | None, finished_run: Path, tiny_options: TrainOptions
) -> None:
    options = replace(tiny_options, optim=replace(tiny_options.optim, **changes))
    if further is None:
        message = r"optim.steps = 8, not 7; --resume can make a run longer, not shorter"
        with pytest.raises(UsageError, match=message):
            check_continuation(finished_run, options)
    else:
        assert check_continuation(finished_run, options) == further
