"""Numbers that other programs can read and pictures that are not blank."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn_ext.metrics import scores_from_matrix
from fcn_ext.numpy import voc_palette
from fcn_train.classes import Classes, load_classes, save_classes
from fcn_train.history import History, write_csv
from fcn_train.pictures import Picture, draw_curves, draw_overlays
from fcn_train.report import Result, summary, to_json, write_report
from tests.train.pages import Page

MATRIX = np.array([[50, 10, 0], [5, 35, 0], [0, 0, 0]], dtype=np.int64)
NAMES = ("background", "cat & <dog>", "never")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on three classes, the last neither present nor predicted."""
    path = tmp_path_factory.mktemp("report") / "new"
    rng = np.random.default_rng(0)
    rows = [
        Picture(
            f"picture {width}",
            rng.integers(0, 256, (20, width, 3), dtype=np.uint8),
            np.where(rng.random((20, width)) < 0.1, 255, 1).astype(np.uint8),
            rng.integers(0, 2, (20, width), dtype=np.uint8),
            rng.random((20, width), dtype=np.float32),
            0.25,
        )
        for width in (30, 11)
    ]
    history = History()
    for step in range(1, 7):
        history.add_loss(step, step / 6, 0.1, 1 / step, every=2)
    scores = scores_from_matrix(torch.from_numpy(MATRIX))
    history.add_scores(6, 1.0, scores)
    write_report(
        path,
        title="a title",
        facts={"split": "val", "steps": 6},
        results=[
            Result(
                Classes(NAMES, voc_palette()),
                MATRIX,
                rows,
                worst=rows[:1],
                best=rows[1:],
                per_image=[("=picture 30", 0.25), ("picture 11", float("nan"))],
            )
        ],
        history=history,
        config={"seed": 1},
        environment={"torch": "x"},
    )
    return path


def test_metrics(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["split"] == "val"
    assert metrics["pixel_accuracy"] == 0.85
    assert metrics["mean_iu"] == pytest.approx((50 / 65 + 35 / 50) / 2)
    assert metrics["num_pixels"] == 100
    assert metrics["classes"][1] == {
        "class": "cat & <dog>",
        "iu": 0.7,
        "accuracy": 0.875,
        "target_pixels": 40,
        "predicted_pixels": 45,
    }
    assert metrics["classes"][2]["iu"] is None


def test_tables(folder: Path) -> None:
    def rows(name: str) -> list[list[str]]:
        with (folder / name).open(newline="") as file:
            return list(csv.reader(file))

    assert rows("confusion_matrix.csv")[1:] == [
        [NAMES[0], "50", "10", "0"],
        [NAMES[1], "5", "35", "0"],
        [NAMES[2], "0", "0", "0"],
    ]
    assert rows("per_class.csv")[3] == ["never", "nan", "nan", "0", "0"]
    assert rows("training.csv")[0] == ["step", "epoch", "lr", "loss"]
    assert [row[0] for row in rows("training.csv")[1:]] == ["2", "4", "6"]
    assert rows("training.csv")[1][3] == "0.75"
    assert rows("evaluations.csv")[1][:3] == ["6", "1", "0.85"]
    images = [["image", "mean_iu"], ["'=picture 30", "0.25"], ["picture 11", "nan"]]
    assert rows("per_image.csv") == images


@pytest.mark.parametrize(
    "name", ["curves.png", "per_class.png", "confusion_matrix.png", "overlays.png"]
)
def test_pictures_show_something(name: str, folder: Path) -> None:
    with Image.open(folder / name) as picture:
        pixels = np.array(picture.convert("RGB"))
    assert min(pixels.shape[:2]) >= 200
    share = (pixels.reshape(-1, 3) != 255).any(1).mean()
    assert 0.01 < share < 0.99
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_curves_of_a_run_without_rows(tmp_path: Path) -> None:
    draw_curves(tmp_path / "curves.png", [], [])
    assert (tmp_path / "curves.png").is_file()


def test_page_holds_every_picture_and_escapes_names(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    assert len(page.images) == 3 + 4 * (2 + 1 + 1)
    assert "cat & <dog>" in page.text
    assert "0.8500" in page.text


def test_json_has_no_nan() -> None:
    values = {"a": [float("nan"), np.float64(0.5), np.int64(3)], "b": float("inf")}
    assert json.loads(to_json(values)) == {"a": [None, 0.5, 3], "b": None}


def test_summary_has_the_four_scores() -> None:
    text = summary(scores_from_matrix(torch.from_numpy(MATRIX)))
    assert text.startswith("mean IU 0.7346, pixel accuracy 0.8500, mean accuracy 0.8542, freq")


def test_best_evaluation_is_known() -> None:
    history = History()
    good = scores_from_matrix(torch.from_numpy(MATRIX))
    bad = scores_from_matrix(torch.from_numpy(MATRIX.T.copy()[::-1].copy()))
    for step, scores, is_best in ((1, good, True), (2, bad, False), (3, good, False)):
        assert history.is_best(scores) == is_best
        history.add_scores(step, step / 10, scores)
    assert [history.stale(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert history.evaluated(2)
    assert not history.evaluated(4)
    assert History.of(history.state()) == history


def test_numbers_in_tables_are_short(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("a", "b"), [[1 / 3, 10**9]])
    assert (tmp_path / "t.csv").read_text() == "a,b\n0.33333333,1000000000\n"


HOSTILE = (
    "$\\frac{$",
    "$x^$",
    "$",
    "a_b$c_d",
    "caf\udce9",
    "line\nbreak",
    "bell\x07",
    "<script>alert(1)</script>",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\u9ed2\U0001f408",
    "x" * 500,
    "",
    "%s {0} \\n \\alpha",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose classes and images are named to break what shows them."""
    path = tmp_path_factory.mktemp("hostile")
    count = len(HOSTILE)
    matrix = np.ones((count, count), dtype=np.int64)
    labels = np.arange(count, dtype=np.uint8).reshape(1, -1)
    image = np.zeros((1, count, 3), dtype=np.uint8)
    rows = [Picture(name, image, labels, labels) for name in HOSTILE]
    write_report(
        path,
        title=HOSTILE[4],
        facts={"split": HOSTILE[4]},
        results=[Result(Classes(HOSTILE, voc_palette()), matrix, rows)],
        config={"root": HOSTILE[4]},
    )
    return path


def test_names_break_no_picture(hostile: Path) -> None:
    for name in ("per_class.png", "confusion_matrix.png", "overlays.png"):
        with Image.open(hostile / name) as picture:
            picture.load()
            assert max(picture.size) < 10_000


def test_names_break_no_page(hostile: Path) -> None:
    text = (hostile / "report.html").read_bytes().decode("utf-8")
    assert text.count("<script>") == 1  # the page's own
    assert "\x07" not in text
    page = Page(text)
    for name in ("$\\frac{$", "caf\\udce9", "line\\nbreak", "<script>alert(1)</script>"):
        assert name in page.text


def test_no_cell_of_a_table_is_a_formula(hostile: Path) -> None:
    for name in ("per_class.csv", "confusion_matrix.csv"):
        with (hostile / name).open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "caf\\udce9"} <= set(cells)


def test_numbers_are_no_formulas(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("=a", "b"), [[-1.5, -3]])
    assert (tmp_path / "t.csv").read_text() == "'=a,b\n-1.5,-3\n"


def test_classes_of_any_name_are_read_back(tmp_path: Path) -> None:
    save_classes(tmp_path / "classes.json", [Classes(HOSTILE, voc_palette())])
    (classes,) = load_classes(tmp_path / "classes.json")
    assert classes.names == HOSTILE


def test_a_legend_of_many_classes_has_room(tmp_path: Path) -> None:
    """Matplotlib would warn, and draw no picture, if it were higher than the figure."""
    label = np.arange(150, dtype=np.uint8).reshape(10, 15)
    row = Picture("all", np.zeros((10, 15, 3), dtype=np.uint8), label, label)
    names = [f"class {index}" for index in range(150)]
    draw_overlays(tmp_path / "overlays.png", [row], names, voc_palette())
    with Image.open(tmp_path / "overlays.png") as picture:
        assert picture.height > 600


def test_several_sets_of_labels_in_one_report(tmp_path: Path) -> None:
    """Files of each set, and a page that shows them all."""
    history = History(label_sets=["things", "parts"])
    scores = scores_from_matrix(torch.from_numpy(MATRIX))
    for step in (1, 2):
        history.add_loss(step, step, 0.1, 1 / step, every=1)
        history.add_scores(step, step, scores, scores)
    label = np.array([[0, 1], [1, 255]], dtype=np.uint8)
    row = Picture("one", np.zeros((2, 2, 3), dtype=np.uint8), label, label)
    results = [
        Result(Classes(names, voc_palette(), name), MATRIX[: len(names), : len(names)], [row])
        for name, names in (("things", NAMES), ("parts", ("<leg>", "head")))
    ]
    write_report(tmp_path, title="t", facts={"split": "v"}, results=results, history=history)
    page = Page((tmp_path / "report.html").read_text())
    assert len(list(tmp_path.glob("*.png"))) == 7
    assert len(page.images) == 1 + 2 * (2 + 4)
    for text in ("Scores: things", "Scores: parts", "<leg>", "cat & <dog>"):
        assert text in page.text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics) == ["split", "label_sets"]
    assert metrics["label_sets"]["things"]["mean_iu"] == pytest.approx((50 / 65 + 35 / 50) / 2)
    assert metrics["label_sets"]["parts"]["classes"][0]["class"] == "<leg>"
    with (tmp_path / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["parts_mean_iu"] for row in rows] == [row["things_mean_iu"] for row in rows]
    text = summary({"things": scores, "parts": scores})
    assert text.startswith("things: mean IU 0.7346")
    assert "; parts: mean IU 0.7346" in text


@pytest.mark.parametrize("backend", ["nope", "qt4agg", "module://nowhere"])
def test_pictures_need_no_display_that_matplotlib_knows(backend: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fcn_train.pictures import *; "
        "save_figure(new_figure(1, 1), Path(sys.argv[1]))"
    )
    path = tmp_path / "empty.png"
    environment = {**os.environ, "MPLBACKEND": backend}
    subprocess.run([sys.executable, "-c", code, path], check=True, env=environment)
    assert path.stat().st_size > 0
