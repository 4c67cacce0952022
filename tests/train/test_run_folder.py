"""Folders of runs: their numbers, and how one is found and continued."""

from __future__ import annotations

import fnmatch
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train.config import to_dict
from fcn_train.errors import UsageError, WriteError
from fcn_train.files import write_text
from fcn_train.options import TrainOptions
from fcn_train.report import to_json
from fcn_train.run_folder import (
    FILES,
    RunFolder,
    check_continuation,
    find_run,
    new_run_folder,
    refuse_file_of_run,
    refuse_folder_of_run,
)

from .running import longer


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
    with pytest.raises(UsageError, match="--output elsewhere has no effect with --resume"):
        find_run(str(finished_run), Path("elsewhere"))
    assert find_run(str(finished_run), finished_run / ".." / finished_run.name) == finished_run
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
    [
        *(({}, False), ({"steps": 9}, True), ({"steps": 7}, None)),
        # Epochs had no effect before, so they may be fewer now.
        *(({"steps": 0, "epochs": 40.0}, True), ({"steps": 0, "epochs": 9.0}, True)),
    ],
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


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"steps": 8}, {"steps": 8, "epochs": 100.0}),
        ({"steps": 8}, {"steps": 20, "epochs": 100.0}),
        ({"steps": 8}, {"steps": 8, "epochs": 2.0}),
        ({"steps": 0, "epochs": 9.0}, {"steps": 40, "epochs": 20.0}),
    ],
)
def test_epochs_that_would_have_no_effect_are_refused(
    before: dict[str, Any], now: dict[str, Any], tiny_options: TrainOptions, tmp_path: Path
) -> None:
    write_text(tmp_path / "config.json", to_json(to_dict(longer(tiny_options, **before))))
    message = (
        rf"^{tmp_path}: --optim.epochs {now['epochs']:g} has no effect, as --optim.steps "
        rf"{now['steps']} goes before it; give --optim.steps 0 with it, or more --optim.steps"
    )
    with pytest.raises(UsageError, match=message):
        check_continuation(tmp_path, longer(tiny_options, **now))


def report_of_an_evaluation(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")


def checkpoint_of_another(folder: Path) -> None:
    (folder / "checkpoints" / "step-000004").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (report_of_an_evaluation, "holds the report of an evaluation; give another --output"),
        (checkpoint_of_another, "holds checkpoints of another run; give another --output"),
    ],
)
def test_given_folder_whose_files_would_be_taken_for_the_runs(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """An interrupted run would count as finished, or go on from the other's weights."""
    make(tmp_path)
    with pytest.raises(UsageError, match=f"^{tmp_path}: {message}$"):
        new_run_folder(tmp_path, "x")


FOLDERS = {
    "evaluate": ["evaluate", "OTHER", "--output", "RUN"],
    "evaluate the run itself": ["evaluate", "RUN", "--output", "RUN"],
    "predict": ["predict", "OTHER", "DATA", "--output", "RUN"],
    "study": ["study", "label-downsampling", "--data.root", "DATA", "--output", "RUN"],
    "data hha": ["data", "hha", "--depth", "DATA", "--output", "RUN"],
    "data get": ["data", "get", "voc2012", "--root", "RUN"],
    "export": ["export", "OTHER", "--format", "torch-export", "--file", "RUN/model.pt2"],
}


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be spoiled."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def places(run: Path, finished_run: Path, sample_root: Path) -> dict[str, Path]:
    """What the words of FOLDERS stand for."""
    return {"RUN": run, "OTHER": finished_run, "DATA": sample_root}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", list(FOLDERS))
def test_no_other_command_writes_into_a_run(
    name: str,
    finished: bool,
    run: Path,
    places: dict[str, Path],
    command: Callable[..., tuple[int, str, str]],
) -> None:
    if not finished:
        (run / "metrics.json").unlink()
    arguments = [
        str(places.get(one.partition("/")[0], one)) + one[one.find("/") :] * ("/" in one)
        for one in FOLDERS[name]
    ]
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, err = command(*arguments)
    option = arguments[-2]
    assert (code, err.count("\n")) == (2, 1)
    assert err == (
        f"fcn: {run}: is the folder of a run, whose files {option} would replace; "
        f"give another {option}\n"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["compare", "RUN", "OTHER", "--images", "0", "--output"], "report.html"),
        (["describe", "fcn-alexnet", "--output"], "config.json"),
        (["describe", "fcn-alexnet", "--picture"], "per_class.png"),
        (["data", "stats", "--kind", "sample", "--root", "DATA", "--output"], "metrics.json"),
        (["compare", "RUN", "OTHER", "--images", "0", "--output"], "evaluate-val/report.html"),
        (["describe", "fcn-alexnet", "--picture"], "evaluate-val/overlays.png"),
        (["describe", "fcn-alexnet", "--output"], "checkpoints/step-000008/checkpoint.json"),
    ],
)
def test_no_other_command_replaces_a_file_of_a_run(
    arguments: list[str],
    file: str,
    finished_run: Path,
    sample_root: Path,
    tmp_path: Path,
    command: Callable[..., tuple[int, str, str]],
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    evaluation = run / "evaluate-val"
    evaluation.mkdir()
    for name in ("report.html", "overlays.png"):
        shutil.copy(run / name, evaluation)
    places = {"RUN": run, "OTHER": finished_run, "DATA": sample_root}
    before = (run / file).read_bytes()
    code, _, err = command(*(places.get(one, one) for one in arguments), run / file)
    assert code == 2
    assert err == (
        f"fcn: {run / file}: is a file of the run in that folder; give another {arguments[-1]}\n"
    )
    assert (run / file).read_bytes() == before


@pytest.mark.parametrize("place", ["evaluate-val", "evaluate-train", "sub/../evaluate-val", "link"])
@pytest.mark.parametrize("name", ["evaluate", "predict", "study", "export"])
def test_no_other_command_writes_where_evaluations_of_a_run_lie(
    name: str,
    place: str,
    run: Path,
    places: dict[str, Path],
    command: Callable[..., tuple[int, str, str]],
) -> None:
    for folder in ("evaluate-val", "sub"):
        (run / folder).mkdir()
    (run / "link").symlink_to("evaluate-val")
    output = run / place
    arguments = [places.get(one, one) for one in FOLDERS[name][:-1]]
    code, _, err = command(*arguments, output / "x.pt2" if name == "export" else output)
    assert code == 2
    assert err == (
        f"fcn: {output}: is for an evaluation of the run that it lies in; give another "
        f"{arguments[-1]}\n"
    )
    assert not any((run / "evaluate-val").iterdir())


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/step-000008", "checkpoints/a/b"])
@pytest.mark.parametrize("name", list(FOLDERS))
def test_no_other_command_writes_where_checkpoints_are_removed(
    name: str,
    place: str,
    run: Path,
    places: dict[str, Path],
    command: Callable[..., tuple[int, str, str]],
) -> None:
    output = run / place
    before = sorted(run.rglob("*"))
    arguments = [places.get(one, one) for one in FOLDERS[name][:-1]]
    code, _, err = command(*arguments, output / "x.pt2" if name == "export" else output)
    assert (code, err) == (
        2,
        f"fcn: {output}: is for the checkpoints of a run, which are removed in time; give another "
        f"{arguments[-1]}\n",
    )
    assert sorted(run.rglob("*")) == before


def test_evaluations_of_a_run_may_lie_in_its_folder(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (tmp_path / "same").symlink_to(run)
    for place in ("run/evaluate-best", "same/evaluate-val", "evaluate-val"):
        refuse_folder_of_run(tmp_path / place, "--output", evaluated=run)
    refuse_folder_of_run(run / "predictions", "--output")


def test_files_of_other_names_may_lie_beside_a_run(finished_run: Path, tmp_path: Path) -> None:
    for name in FILES:
        assert not fnmatch.fnmatchcase("compare.html", name)
    for path in finished_run.iterdir():
        if path.is_file():
            with pytest.raises(UsageError, match="is a file of the run in that folder"):
                refuse_file_of_run(path, "--output")
    refuse_file_of_run(finished_run / "compare.html", "--output")
    refuse_file_of_run(tmp_path / "report.html", "--output")
