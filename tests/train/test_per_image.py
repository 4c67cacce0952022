"""The mean IU of each image, and the confusions of each class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcn_ext.metrics import ConfusionMatrix, scores_from_matrix
from fcn_ext.numpy import voc_palette
from fcn_train.classes import Classes
from fcn_train.data import IMAGENET, open_dataset
from fcn_train.evaluator import Evaluator
from fcn_train.per_image import ImageCounts, extremes
from fcn_train.report import Result
from fcn_train.report_page import _confusions
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from fcn_train.views import Views

RUNTIME = Runtime(torch.device("cpu"))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("views", [Views(), Views(tta="flip")])
def test_mean_iu_is_that_of_each_image_alone(
    batch: int, views: Views, varied_run: Path, sample_root: Path
) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    model = load_run(varied_run).model
    together = Evaluator(dataset, RUNTIME, IMAGENET, batch=batch, views=views)
    counts = ImageCounts()
    total = together.count(model, None, counts)
    assert sorted(counts.ids) == sorted(dataset.ids)
    found = dict(zip(counts.ids, counts.mean_iu().tolist(), strict=True))
    alone = Evaluator(dataset, RUNTIME, IMAGENET, views=views)
    added = torch.zeros_like(total.matrix)
    for index, picture in enumerate(alone.pictures(model, range(len(dataset)))):
        matrix = ConfusionMatrix(21)
        matrix.update(
            torch.from_numpy(picture.prediction)[None], torch.from_numpy(picture.target)[None]
        )
        added += matrix.matrix
        assert found[dataset.ids[index]] == pytest.approx(matrix.compute().mean_iu, rel=1e-12)
    if not views.several:  # an average over views is not that of one image of another batch
        assert torch.equal(added, total.matrix)


def test_an_image_of_void_has_none() -> None:
    counts = ImageCounts()
    matrix = ConfusionMatrix(3)
    targets = torch.tensor([[[255, 255]], [[0, 1]], [[2, 255]]], dtype=torch.uint8)
    predictions = torch.tensor([[[0, 1]], [[0, 2]], [[2, 0]]], dtype=torch.uint8)

    def add(into: ConfusionMatrix, target: torch.Tensor, some: slice) -> None:
        into.update(predictions[some], target[some])

    counts.add(["void", "some", "all"], [add], [matrix], [targets])
    values = counts.mean_iu()
    assert np.isnan(values[0])
    assert values[1:].tolist() == [1 / 3, 1.0]
    assert int(matrix.matrix.sum()) == 3
    assert ImageCounts().mean_iu().tolist() == []


def test_extremes() -> None:
    values = np.array([0.5, np.nan, 0.1, 0.9, 0.1])
    assert extremes(values, 2) == ([2, 4], [3, 0])
    assert extremes(values, 3) == ([2, 4, 0], [3])
    assert extremes(values, 9) == ([2, 4, 0, 3], [])
    assert extremes(np.full(2, np.nan), 3) == ([], [])


def test_images_of_all_processes_are_gathered() -> None:
    counts, others = ImageCounts(), ImageCounts()
    for one, name, hits in ((counts, "a", 1), (others, "b", 3)):
        one.ids.append(name)
        one._hits.append([torch.tensor([hits])])
        one._unions.append([torch.tensor([4])])

    class Two:
        several = True

        def collected(self, mine: Any) -> list[Any]:
            return [mine, (others.ids, others._hits, others._unions)]

    here: Any = Two()
    counts.gather(here)
    assert counts.ids == ["a", "b"]
    assert counts.mean_iu().tolist() == [0.25, 0.75]


def test_table_of_a_run(finished_run: Path, sample_root: Path) -> None:
    with (finished_run / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == open_dataset("sample", sample_root, "val").ids
    assert all(0 <= float(row["mean_iu"]) <= 1 for row in rows)


MATRIX = np.array([[90, 4, 6], [3, 0, 0], [0, 0, 0]], dtype=np.int64)


def test_confusions_of_a_class() -> None:
    result = Result(Classes(("sky", "<sea>", "never"), voc_palette()), MATRIX, [])
    assert result.taken_for(0) == [(2, 6), (1, 4)]
    assert result.taken_for(0, 1) == [(2, 6)]
    assert result.taken_for(1) == [(0, 3)]
    assert result.taken_for(2) == []
    page = _confusions(result)
    cells = page.replace("<", " <").split("<td")
    assert "sky \u2192 never" in cells[1]
    assert (
        page.index("sky \u2192 never")
        < page.index("sky \u2192 &lt;sea&gt;")
        < page.index("&lt;sea&gt; \u2192 sky")
    )
    assert "6.0 %" in page  # of the pixels of sky
    assert "46.2 %" in page  # of all errors
    assert "100.0 %" in page
    assert scores_from_matrix(MATRIX).pixel_accuracy < 1


def test_no_confusion_is_said() -> None:
    result = Result(Classes(("a", "b"), voc_palette()), np.diag([3, 4]), [])
    assert _confusions(result) == "<p>No pixel is wrong.</p>"
