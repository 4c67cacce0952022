"""Runs side by side: their scores, what they differ in, and the images they differ on."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fcn_ext.metrics import scores_from_matrix
from fcn_train.compare import images, page
from fcn_train.compare.command import comparable, differences_in_kind
from fcn_train.compare.images import Difference, largest_differences, mean_iu, validation_sets
from fcn_train.compare.records import differing_options, read_records
from fcn_train.compare.tables import class_rows, score_rows
from fcn_train.data import open_dataset
from fcn_train.errors import UsageError
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from tests.train.pages import Page

from .running import assert_one_line

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def third(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be made another."""
    return Path(shutil.copytree(finished_run, tmp_path / "third"))


def replaced(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_command(finished_run: Path, varied_run: Path, command: Command, tmp_path: Path) -> None:
    replaced(varied_run / "config.json", '"seed": 0', '"seed": 7')
    output = tmp_path / "new" / "page.html"
    try:
        code, out, err = command(
            *("compare", finished_run, varied_run, "--output", output, "--images", "2"),
            *("--threads", "1"),
        )
    finally:
        replaced(varied_run / "config.json", '"seed": 7', '"seed": 0')
    assert (code, err) == (0, "")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert f"{metrics['mean_iu']:.4f}" in out
    assert re.search(r"^option +finished +run\nseed +0 +7$", out, re.M)
    text = output.read_text()
    page = Page(text)
    assert len(text) < 400_000
    pictures = page.pictures()
    assert len(pictures) == 1 + 2 * 4
    assert all(max(picture.size) <= 320 for picture in pictures[1:])
    assert "frequency_weighted" not in page.text
    weights = "Predictions of the last weights of each run"
    for part in ("background", "pixels differ", "mean IU 0.", "seed", weights):
        assert part in page.text


def test_images_are_those_that_differ_most(
    finished_run: Path, varied_run: Path, sample_root: Path
) -> None:
    runs = [load_run(run) for run in (finished_run, varied_run)]
    cpu = Runtime(torch.device("cpu"))
    seen: list[int] = []
    datasets = validation_sets(runs)
    (found,) = largest_differences(runs, datasets, cpu, 2, seen.append)
    (everything,) = largest_differences(runs, datasets, cpu, 99, seen.append)
    assert seen == [1] * 6
    assert [one.name for one in everything[:2]] == [one.name for one in found]
    assert [one.rank for one in everything] == sorted((o.rank for o in everything), reverse=True)
    dataset = open_dataset("sample", sample_root, "val")
    assert sorted(one.name for one in everything) == sorted(dataset.ids)
    for one in everything:
        example = dataset[dataset.ids.index(one.name)]
        np.testing.assert_array_equal(one.target, example.label)
        first, second = one.predictions
        assert one.differing == (first != second).mean()
        assert len(np.unique(second)) > 1
        for prediction, iu in zip(one.predictions, one.ious, strict=True):
            valid = example.label != 255
            counts = np.zeros((21, 21), dtype=np.int64)
            np.add.at(counts, (example.label[valid], prediction[valid]), 1)
            assert iu == scores_from_matrix(counts).mean_iu


def test_mean_iu_of_an_image() -> None:
    target = np.array([[0, 0, 1, 255]], dtype=np.uint8)
    assert mean_iu(target[:, :3], target[:, :3], 3) == 1
    assert mean_iu(np.array([[0, 1, 1, 2]], dtype=np.uint8), target, 3) == 0.5
    assert math.isnan(mean_iu(target * 0, np.full_like(target, 255), 3))


def test_images_rank_by_iu_then_by_pixels() -> None:
    def one(ious: tuple[float, float], differing: float) -> Difference:
        empty = np.zeros((1, 1), dtype=np.uint8)
        return Difference("", empty, empty, (empty, empty), ious, differing)

    ranked = [one((0.1, 0.9), 0.1), one((0.4, 0.5), 0.1), one((math.nan, math.nan), 0.9)]
    ranked += [one((0.5, 0.5), 0.2)]
    assert sorted(ranked, key=lambda each: each.rank, reverse=True) == ranked


def test_records(finished_run: Path, third: Path) -> None:
    (third / "metrics.json").unlink()
    done, unfinished = read_records([finished_run, third])
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert done.sets[0].last["mean_iu"] == metrics["mean_iu"]
    assert len(done.training) == 3
    assert done.sets[0].best["mean_iu"] == max(row["mean_iu"] for row in done.evaluations)
    assert differing_options([done, unfinished]) == []
    ((_, rows),) = score_rows([done, unfinished]).values()
    assert [row[0] for row in rows] == ["finished", "third (not finished)"]
    assert rows[1][2] == f"{unfinished.evaluations[-1]['mean_iu']:.4f}"
    assert unfinished.sets[0].class_iu is None
    assert {row[2] for row in class_rows([done, unfinished])[""]} == {"-"}


def test_a_run_that_has_no_score_yet(third: Path, finished_run: Path) -> None:
    for name in ("metrics.json", "evaluations.csv", "training.csv"):
        (third / name).unlink()
    _, fresh = read_records([finished_run, third])
    ((_, rows),) = score_rows([fresh]).values()
    assert rows == [("third (not finished)", "-", "-", "-", "-", "-", "-", "-")]
    assert class_rows([fresh]) == {}


def test_runs_of_one_name_are_told_apart(finished_run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished_run, tmp_path / finished_run.name))
    names = [record.name for record in read_records([finished_run, other])]
    assert names == [str(finished_run), str(other)]


def test_other_classes_are_said_and_matched_by_name(
    finished_run: Path, third: Path, command: Command, tmp_path: Path
) -> None:
    replaced(third / "classes.json", '"violet striped flower"', '"<lion>"')
    output = tmp_path / "page.html"
    code, out, err = command("compare", finished_run, third, "--output", output)
    assert code == 0
    assert "third has other classes (21) than finished (21)" in err
    assert "no images are compared: that takes two runs of the same classes" in err
    assert "<lion>" in out
    rows = class_rows(read_records([finished_run, third]))[""]
    assert [row[0] for row in rows[-2:]] == ["violet striped flower", "<lion>"]
    assert rows[-2][2] == rows[-1][1] == "-"
    assert rows[0][1] == rows[0][2] != "-"
    assert "<lion>" in Page(output.read_text()).text


def test_other_images_are_said_and_left_out(
    finished_run: Path, varied_run: Path, third: Path, command: Command, tmp_path: Path
) -> None:
    splits = json.loads((third / "splits.json").read_text())
    splits["val"]["fingerprint"] = "0" * 16
    (third / "splits.json").write_text(json.dumps(splits))
    records = read_records([third, finished_run, varied_run])
    assert [record.name for record in comparable(records)] == ["finished", "run"]
    said = differences_in_kind(records)
    assert len(said) == 2
    assert "scored on other images" in said[0]
    output = tmp_path / "page.html"
    code, _, err = command(
        *("compare", finished_run, third, varied_run, "--images", "1", "--output", output)
    )
    assert code == 0
    assert "the images are of finished and run alone" in err
    assert len(Page(output.read_text()).images) == 1 + 4


@pytest.mark.parametrize("images", ["0", "1"])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--device", "xpu", "--device must be auto, cpu, cuda or cuda:N, got 'xpu'"),
        ("--device", "cuda:99", "--device cuda:99: torch sees "),
        ("--threads", "-1", "--threads must be in [0, 1024], got -1"),
    ],
)
def test_a_mistake_in_an_option_is_no_remark_on_the_images(
    option: str,
    value: str,
    said: str,
    images: str,
    finished_run: Path,
    third: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    output = tmp_path / "page.html"
    result = command(
        *("compare", finished_run, third, "--images", images, option, value, "--output", output)
    )
    assert_one_line(result, said)
    assert not output.exists()


def test_data_that_is_gone_is_said(
    finished_run: Path, third: Path, command: Command, tmp_path: Path
) -> None:
    for path in (third, tmp_path / "fourth"):
        if not path.exists():
            shutil.copytree(third, path)
        config = json.loads((path / "config.json").read_text())
        config["data"]["root"] = "gone"
        (path / "config.json").write_text(json.dumps(config))
    output = tmp_path / "page.html"
    code, out, err = command("compare", third, tmp_path / "fourth", "--output", output)
    assert code == 0
    assert "no images are compared: gone: holds no sample data set" in err
    assert "mean IU" in out
    assert output.is_file()


def test_data_that_has_changed_is_said(
    finished_run: Path,
    varied_run: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fcn_train.compare.command.fingerprint", lambda dataset: "other")
    output = tmp_path / "page.html"
    code, _, err = command("compare", finished_run, varied_run, "--output", output)
    assert code == 0
    assert "has changed since" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RUN",), "give two or more run folders to compare, got 1"),
        (("RUN", "RUN"), "is given twice"),
        (("RUN", "OTHER", "--output", "notes.md"), "--output must end in .html, got notes.md"),
        (("RUN", "OTHER", "--output", "RUN"), "--output must end in .html, got "),
        (("RUN", "absent"), "absent: cannot be read"),
        (("RUN", "OTHER", "--images", "-1"), "--images must be in [0, 100], got -1"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], message: str, finished_run: Path, third: Path, command: Command
) -> None:
    given = {"RUN": finished_run, "OTHER": third}
    code, _, err = command("compare", *(given.get(argument, argument) for argument in arguments))
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("metrics.json", "{", "cannot be read"),
        ("metrics.json", '{"mean_iu": 1}', r"\(\w+ is missing\)"),
        ("metrics.json", '{"label_sets": [1]}', "its parts are of other types"),
        ("metrics.json", '{"label_sets": {"": 1}}', "its parts are of other types"),
        (
            "metrics.json",
            '{"mean_iu": "x", "pixel_accuracy": "x"}',
            "scores must be numbers, got 'x'",
        ),
        ("evaluations.csv", "step\nx\n", r"step in row 1 must be a number, got 'x'"),
        ("evaluations.csv", "step,b\n1\n", "row 1 must have as many cells as the header"),
        ("evaluations.csv", "step,b\n1,2,3\n", "row 1 must have as many cells as the header"),
        ("training.csv", "step,loss\n\udcff", "it is no text in UTF-8"),
    ],
)
def test_files_that_are_damaged_are_named(
    name: str, text: str, why: str, finished_run: Path, third: Path
) -> None:
    (third / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=rf"{name}: .*{why}"):
        read_records([finished_run, third])


def test_scores_of_other_classes_are_named(finished_run: Path, third: Path) -> None:
    metrics = json.loads((third / "metrics.json").read_text())
    metrics["classes"].pop()
    (third / "metrics.json").write_text(json.dumps(metrics))
    message = rf"{third}/metrics\.json: is not what .*must score 21 classes, got 20"
    with pytest.raises(UsageError, match=message):
        read_records([finished_run, third])


def test_images_of_another_size_are_named(
    finished_run: Path, varied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [load_run(run) for run in (finished_run, varied_run)]
    sizes = iter([(48, 48), (48, 47)])
    monkeypatch.setattr(images, "segment", lambda *a: np.zeros(next(sizes), dtype=np.uint8))
    cpu = Runtime(torch.device("cpu"))
    with pytest.raises(UsageError, match="is of another size"):
        largest_differences(runs, validation_sets(runs), cpu, 1, lambda count: None)


def test_both_curves_have_the_steps_of_the_runs(
    finished_run: Path, third: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where runs were scored only once."""
    lines = (third / "evaluations.csv").read_text().splitlines()
    (third / "evaluations.csv").write_text("\n".join([lines[0], lines[-1]]) + "\n")
    drawn: list[Figure] = []
    monkeypatch.setattr(page, "draw_figure", lambda figure, content: drawn.append(figure))
    page._curves(read_records([third, finished_run])[:1])
    loss, score = drawn[0].axes
    assert score.get_xlim() == loss.get_xlim()
