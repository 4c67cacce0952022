"""`fcn evaluate` as the shell sees it."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fcn_train.evaluate import folder_name
from fcn_train.evaluator import Evaluator
from fcn_train.options import DataOptions

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


def test_the_report_tells_how_the_scores_were_taken(
    finished_run: Path, command: Command, tmp_path: Path
) -> None:
    """All that is given and changes them; what the run was trained with is beside it."""
    for flags, name, value in (
        (("--amp", "bf16"), "amp", "bf16"),
        (("--logits", "full"), "logits", "full"),
        (("--tta", "flip"), "test-time augmentation", "flip"),
        (("--weights", "best"), "weights", "best"),
        ((), "amp", "none"),
    ):
        assert command("evaluate", finished_run, "--output", tmp_path, *flags)[0] == 0
        assert json.loads((tmp_path / "metrics.json").read_text())[name] == value


def test_options_of_training_are_told_as_those_of_the_command(
    finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    """What reads data names them; an evaluation has two of them, by names of its own."""
    mine = tmp_path / "mine"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        shutil.copytree(sample_root / name, mine / name)
    shutil.copy(sample_root / "classes.txt", mine)
    for given, said in (
        (("--data-kind", "voc"), "--data-kind voc needs --data-root, the folder"),
        (("--data-root", mine), f"{mine}: holds no sample data set; it looks like --data-kind voc"),
    ):
        code, _, err = command("evaluate", finished_run, *given)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"fcn: {said}")
    for path in (mine / "SegmentationClass").iterdir():
        with Image.open(path) as label:
            label.point([77] * 256).save(path)
    code, _, err = command("evaluate", finished_run, "--data-kind", "voc", "--data-root", mine)
    assert code == 2
    assert "--data.label-map" in err
    assert err.endswith(" (an option of fcn train: an evaluation reads data as its run did)\n")


def test_a_list_of_the_same_name_has_a_report_of_its_own(
    finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    run, own = tmp_path / "run", (sample_root / "ImageSets" / "Segmentation" / "val.txt")
    shutil.copytree(finished_run, run)
    ids = own.read_text().split()
    given: list[tuple[str, ...]] = [()]
    for count in (1, 2):
        listed = tmp_path / str(count) / "val.txt"
        listed.parent.mkdir()
        listed.write_text("\n".join(ids[:count]))
        given.append(("--split", str(listed)))
    for flags in given:
        assert command("evaluate", run, *flags, "--threads", "1")[0] == 0
    found = {path.name: path for path in run.glob("evaluate-*")}
    images = {
        name: json.loads((path / "metrics.json").read_text())["images"]
        for name, path in found.items()
    }
    assert images.pop("evaluate-val") == 3
    assert sorted(images.values()) == [1, 2]
    assert all(re.fullmatch(r"evaluate-val-[0-9a-f]{8}", name) for name in images)
    assert command("evaluate", run, *given[1], "--threads", "1")[0] == 0
    assert {path.name for path in run.glob("evaluate-*")} == set(found)


@pytest.mark.parametrize("given", ["split", "list", "data", "output"])
def test_a_report_tells_what_it_is_of(
    given: str, finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    """Which run and which data, whatever its folder is called."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    own = sample_root / "ImageSets" / "Segmentation" / "val.txt"
    listed, other = tmp_path / "mine, <all>" / "val.txt", tmp_path / "other data"
    listed.parent.mkdir()
    listed.write_text(own.read_text())
    shutil.copytree(sample_root, other)
    flags, source = {
        "split": ([], own),
        "list": (["--split", listed], listed),
        "data": (["--data-root", other], other / "ImageSets" / "Segmentation" / "val.txt"),
        "output": (["--output", tmp_path / "report"], own),
    }[given]
    code, out, err = command("evaluate", run, *flags, "--threads", "1")
    assert code == 0, err
    folder = Path(out.splitlines()[-1].removesuffix("/report.html: written"))
    metrics = json.loads((folder / "metrics.json").read_text())
    found = [metrics[name] for name in ("run", "data", "source")]
    assert found == [str(run), "sample", str(source.resolve())]
    page = (folder / "report.html").read_text()
    assert html.escape(str(source.resolve())) in page
    assert html.escape(str(run)) in page


def test_every_split_has_a_folder_name_of_its_own(tmp_path: Path) -> None:
    own = DataOptions(kind="voc", root=tmp_path / "voc", val_split="val")
    other = replace(own, root=tmp_path / "other")
    places = [
        (own, "val", "voc/val.txt"),
        (own, "train", "voc/train.txt"),
        (own, "", "voc/images"),
        (own, "all", "voc/all.txt"),
        (own, "v.1", "voc/v.1.txt"),
        (own, "v.2", "voc/v.2.txt"),
        (own, "val.txt", "here/val.txt"),
        (own, "lists/val", "lists/val.txt"),
        (own, "train/aachen", "voc/train/aachen"),
        (own, "val/aachen", "voc/val/aachen"),
        (other, "val", "other/val.txt"),
        (replace(other, kind="folder"), "val", "other/val.txt"),
    ]
    names = [folder_name(own, data, split, tmp_path / at) for data, split, at in places]
    assert len(set(names)) == len(places)
    assert names[:3] == ["val", "train", "all"]
    assert names[4:6] == ["v.1", "v.2"]


def test_the_runs_own_split_is_called_what_it_is(tmp_path: Path) -> None:
    """By whatever it was given, and before others."""
    for split, name, others in (
        ("lists/val.txt", "val", ("val", "other/val.txt")),
        ("", "all", ("all", "all.txt")),
        ("all", "all", ("",)),
    ):
        own = DataOptions(kind="voc", root=tmp_path, val_split=split)
        assert folder_name(own, own, split, tmp_path / "own") == name
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path)
        assert folder_name(own, replace(own, root=link), split, tmp_path / "own") == name
        for other in others:
            assert folder_name(own, own, other, tmp_path / "x").startswith(f"{name}-")
