"""A run goes on with data that was moved, and not with other data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train.config import load_config
from fcn_train.data import write_sample_dataset
from fcn_train.options import TrainOptions
from fcn_train.train import train

from .running import assert_one_line, assert_same_run, killed

pytestmark = pytest.mark.usefixtures("no_pictures")
Command = Callable[..., tuple[int, str, str]]
VAL = Path("ImageSets", "Segmentation", "val.txt")


@pytest.fixture
def moved(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "moved data"))


def test_a_run_goes_on_with_moved_data(
    tiny_options: TrainOptions,
    finished_run: Path,
    moved: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the same bits; from then on its configuration names the new place."""
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    code, _, err = command("train", "--resume", run, "--data.root", moved)
    assert code == 0, err
    assert_same_run(run, finished_run)
    assert load_config(run) == replace(
        load_config(finished_run), data=replace(tiny_options.data, root=moved)
    )


@pytest.mark.parametrize("option", ["--data.val-split", "--data.train-split", "--data.val-root"])
def test_lists_and_sets_that_were_moved(
    option: str,
    tiny_options: TrainOptions,
    sample_root: Path,
    moved: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tiny_options.data
    value = moved
    if option != "--data.val-root":
        name = option.removeprefix("--data.").replace("-", "_")
        file = VAL.with_name(f"{getattr(data, name)}.txt")
        data = replace(data, **{name: str(sample_root / file)})
        value = moved / file
    run = killed(replace(tiny_options, data=data), tmp_path / "run", 6, monkeypatch)
    code, _, err = command("train", "--resume", run, option, value)
    assert code == 0, err
    assert str(value) in (run / "config.json").read_text()


@pytest.mark.parametrize("change", ["image", "order", "class", "list"])
def test_other_data_is_refused(
    change: str,
    tiny_options: TrainOptions,
    moved: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    before = (run / "config.json").read_bytes()
    names = (moved / VAL).read_text().split()
    said = "the val split 'val' has changed since the run was started"
    given = ["--data.root", str(moved)]
    if change == "image":
        (moved / VAL).write_text("\n".join(names[:-1]))
    elif change == "order":
        (moved / VAL).write_text("\n".join(reversed(names)))
    elif change == "class":
        given = ["--data.root", str(moved), "--data.classes", str(tmp_path / "classes.txt")]
        said = "--data.classes"
        (tmp_path / "classes.txt").write_text("a\nb\n")
    else:
        given = ["--data.val-split", "train"]
        said = "was started with data.val_split = 'val', not 'train'"
    assert_one_line(command("train", "--resume", run, *given), said)
    assert (run / "config.json").read_bytes() == before


def test_data_that_is_not_there_is_named(
    tiny_options: TrainOptions, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(tiny_options, tmp_path / "run", 6, monkeypatch)
    missing = tmp_path / "nowhere"
    assert_one_line(command("train", "--resume", run, "--data.root", missing), missing)


def test_a_run_of_moved_data_is_trained_further(
    tiny_options: TrainOptions, tmp_path: Path, moved: Path
) -> None:
    root = write_sample_dataset(tmp_path / "first", train=6, val=3, size=48)
    options = replace(tiny_options, data=replace(tiny_options.data, root=root))
    run = train(replace(options, output=tmp_path / "run"))
    shutil.rmtree(root)
    data = replace(options.data, root=moved)
    longer = replace(options, data=data, optim=replace(options.optim, steps=10))
    assert train(longer, run) == run
    assert load_config(run).data.root == moved
