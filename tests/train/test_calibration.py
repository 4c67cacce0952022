"""`fcn evaluate --calibration`: the table, the picture and the numbers, from every way to count."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn_ext.calibration import Calibration
from fcn_ext.models import Head, MultiHeadFCN, VGG16Trunk
from fcn_train import calibration
from fcn_train.data import IMAGENET, image_to_tensor, open_dataset
from fcn_train.evaluator import Evaluator
from fcn_train.options import Logits
from fcn_train.probabilities import sure_labels
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from fcn_train.views import Views

Command = Callable[..., tuple[int, str, str]]
CPU = Runtime(torch.device("cpu"))


@pytest.mark.parametrize(
    ("logits", "views"),
    [("coarse", Views()), ("full", Views()), ("coarse", Views(tta="flip,0.5,1"))],
)
def test_pixels_are_those_of_the_scores(
    logits: Logits, views: Views, varied_run: Path, sample_root: Path
) -> None:
    """Labels are counted as without it; confidence and accuracy are those of full softmaxes."""
    model = load_run(varied_run).model
    dataset = open_dataset("sample", sample_root, "val")
    evaluator = Evaluator(dataset, CPU, IMAGENET, logits=logits, views=views)
    table = Calibration(21)
    counts = evaluator.count(model, calibrations=[table])
    assert abs(counts.matrix - evaluator.count(model).matrix).sum() <= 4  # ties
    found = table.compute()
    assert found.num_pixels == counts.matrix.sum()
    assert round(float(np.nansum(found.accuracy * found.count))) == counts.matrix.trace()
    if not views.several:
        sure = 0.0
        for index in range(len(dataset)):
            example = dataset[index]
            with torch.inference_mode():
                image = image_to_tensor(example.image, IMAGENET)
                probability = model(image[None]).softmax(1).amax(1)[0]
            sure += float(probability[torch.from_numpy(example.label) != 255].double().sum())
        assert np.nansum(found.confidence * found.count) == pytest.approx(sure, rel=1e-5)


def test_each_head_has_its_table() -> None:
    trunk = VGG16Trunk(width=1 / 32)
    heads = {name: Head(trunk, count) for name, count in (("semantic", 5), ("geometric", 3))}
    model = MultiHeadFCN(trunk, heads).eval()
    found = sure_labels(model, torch.randn(2, 3, 40, 33), Views(), "coarse")
    assert [labels.shape for labels, _ in found] == [(2, 40, 33)] * 2
    for (_, probability), least in zip(found, (1 / 5, 1 / 3), strict=True):
        assert least <= probability.min() <= probability.max() <= 1


def test_command(varied_run: Path, command: Command, tmp_path: Path, no_pictures: None) -> None:
    code, _, _ = command("evaluate", "--run", varied_run, "--calibration", "--output", tmp_path)
    assert code == 0
    with (tmp_path / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    values = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(int(row["pixels"]) for row in rows) == values["num_pixels"]
    gaps = [
        int(row["pixels"]) * abs(float(row["accuracy"]) - float(row["confidence"]))
        for row in rows
        if int(row["pixels"])
    ]
    assert [row["accuracy"] == "" for row in rows] == [row["pixels"] == "0" for row in rows]
    error = values["expected_calibration_error"]
    assert error == pytest.approx(sum(gaps) / values["num_pixels"], rel=1e-5)
    assert values["maximum_calibration_error"] >= error
    with Image.open(tmp_path / "calibration.png") as picture:
        assert picture.width > 300
    assert "<h2>Calibration</h2>" in (tmp_path / "report.html").read_text()


def test_picture_of_nothing(tmp_path: Path) -> None:
    calibration.write(tmp_path, "-geometric", Calibration(3).compute())
    assert (tmp_path / "calibration-geometric.png").exists()
    assert (tmp_path / "calibration-geometric.csv").read_text().count("\n") == 16
