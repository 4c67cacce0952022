"""Sets of labels, and options for them, that are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train.data import write_sample_dataset

pytestmark = pytest.mark.usefixtures("no_pictures")

Command = Callable[..., tuple[int, str, str]]
BOTH = ("--data.label-folder", "SemanticLabels,GeoLabels")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            (*BOTH, "--model.head-weights", "semantic=1"),
            "--model.head-weights must be a finite number >= 0 for each set of labels, not all 0, "
            "such as semantic=1,geometric=1, got 'semantic=1'",
        ),
        ((*BOTH, "--model.head-weights", "semantic=1,geometric=-1"), "got 'semantic=1,geometric=-"),
        ((*BOTH, "--model.head-weights", "semantic=0,geometric=0"), "not all 0"),
        ((*BOTH, "--model.head-weights", "semantic=inf,geometric=0"), "a finite number"),
        ((*BOTH, "--model.head-weights", "semantic=one,geometric=0"), "a finite number"),
        (
            ("--model.head-weights", "semantic=1"),
            "--model.head-weights needs several sets of labels (--data.label-folder), got one",
        ),
        (
            (*BOTH, "--optim.class-weights", "weights.txt"),
            "a file for each, such as semantic=weights.txt,geometric=none, got 'weights.txt'",
        ),
        (
            (*BOTH, "--optim.class-weights", "semantic=none,geometric=absent.txt"),
            "absent.txt: class weights cannot be read (No such file or directory); give a file",
        ),
        (("--data.label-folder", "SemanticLabels,Depth"), "holds no labels of SIFT Flow; give"),
    ],
)
def test_bad_options_end_in_one_line(
    more: tuple[str, ...], message: str, flags: tuple[object, ...], command: Command, tmp_path: Path
) -> None:
    code, _, err = command("train", *flags, *more)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1 + err.count("warning: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["keys", "a.b", "a b", "main"])
def test_folders_that_can_name_no_head(name: str, command: Command, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=2, val=1, size=32)
    (root / "geometry").rename(root / name)
    (root / "classes-geometry.txt").rename(root / f"classes-{name}.txt")
    code, _, err = command(
        *("train", "--data.kind", "folder", "--data.root", root, "--output", tmp_path / "run"),
        *("--data.label-folder", f"labels,{name}"),
    )
    assert code == 2
    assert f"none can be called {name!r} (letters," in err


def test_runs_of_other_sets_are_refused(
    both: Path,
    semantic: Path,
    flags: tuple[object, ...],
    root: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    code, _, err = command("train", *flags, *BOTH, "--model", "fcn8s", "--init-coarser", semantic)
    assert code == 2
    assert f"{semantic}: was trained on one set of labels, SIFT Flow has 2 sets; give" in err
    data = ("--data-kind", "sift-flow", "--data-root", root)
    code, _, err = command("evaluate", "--run", both, *data)
    assert code == 2
    assert f"{both}: was trained on 2 sets of labels, SIFT Flow has one set; give a run" in err
    turned = ("--data.label-folder", "GeoLabels,SemanticLabels")
    code, _, err = command("train", "--resume", both, "--optim.steps", "5", *turned)
    assert code == 2
    assert "was started with data.label_folder = 'SemanticLabels,GeoLabels'" in err
    other = ("--data.val-kind", "sift-flow", "--data.val-root", root)
    code, _, err = command("train", *flags, *BOTH, *other)
    assert code == 2
    assert "SIFT Flow has 33 classes and SIFT Flow, which is trained on, 33 and 3 classes" in err


def test_a_renamed_class_of_the_second_set_ends_the_run(command: Command, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=4, val=1, size=48)
    run = tmp_path / "run"
    flags = (
        *("--data.kind", "folder", "--data.root", root, "--data.label-folder", "labels,geometry"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
        *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1"),
    )
    assert command("train", *flags, "--output", run)[0] == 0
    (root / "classes-geometry.txt").write_text("sky\nflat\nvertical\n")
    code, _, err = command("train", "--resume", run, "--optim.steps", "2")
    assert code == 2
    assert "was 'horizontal', now 'flat'); restore them to continue" in err
