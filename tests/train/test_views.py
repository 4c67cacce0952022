"""Windows and mirror images: what is written and scored is the average of their probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fcn_ext.models import Head, MultiHeadFCN, VGG16Trunk
from fcn_ext.prediction import tile_windows
from fcn_train.data import IMAGENET, image_to_tensor, open_dataset, read_image
from fcn_train.evaluator import Evaluator
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from fcn_train.segmenter import segment
from fcn_train.views import Views

Command = Callable[..., tuple[int, str, str]]


@torch.inference_mode()
def averaged(model: Any, image: Tensor, views: Views) -> Tensor:
    """The probabilities on a canvas of all classes, summed."""
    size = (image.shape[1], image.shape[2])
    canvas = torch.zeros(model.num_classes, *size)
    seen = torch.zeros(size)
    for top, left, height, width in tile_windows(size, views.tile or max(size), views.overlap):
        rows, columns = slice(top, top + height), slice(left, left + width)
        crop = image[None, :, rows, columns]
        weights = torch.ones(height, width)
        if views.tile_weights == "gaussian":
            down, across = (
                torch.exp(-32 * ((torch.arange(n) - n // 2) / n) ** 2) for n in (height, width)
            )
            weights = down[:, None] * across
        parts = [] if views.tta == "none" else views.tta.split(",")
        for scale in [float(part) for part in parts if part != "flip"] or [1]:
            sides = [max(1, int(side * scale + 0.5)) for side in (height, width)]
            view = F.interpolate(crop, sides, mode="bilinear", antialias=True)
            for flip in (False, True) if "flip" in parts else (False,):
                logits = model(view.flip(3)).flip(3) if flip else model(view)
                logits = F.interpolate(logits, (height, width), mode="bilinear")
                canvas[:, rows, columns] += weights * logits.softmax(1)[0]
                seen[rows, columns] += weights
    return canvas / seen


def agree(labels: Tensor, mean: Tensor) -> None:
    """Where two classes are not as good as equal."""
    best = mean.topk(2, 0).values
    decided = best[0] - best[1] > 1e-5
    assert decided.float().mean() > 0.9
    assert torch.equal(labels.long()[decided], mean.argmax(0)[decided])


def test_predictions_are_averages(varied_run: Path, command: Command, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    output = tmp_path / "out"
    options = ("--tile", "32", "--overlap", "8", "--tile-weights", "gaussian")
    code, _, _ = command(
        *("predict", tmp_path / "large.png", "--run", varied_run, "--output", output),
        *("--tta", "flip,0.75,1,1.25", *options),
    )
    assert code == 0
    image = image_to_tensor(read_image(tmp_path / "large.png"), IMAGENET)
    mean = averaged(load_run(varied_run).model, image, Views(32, 8, "flip,0.75,1,1.25", "gaussian"))
    with Image.open(output / "large.png") as index:
        agree(torch.from_numpy(np.array(index)), mean)


def test_mirror_images_are_scored(varied_run: Path, sample_root: Path) -> None:
    run = load_run(varied_run)
    dataset = open_dataset("sample", sample_root, "val")
    views = Views(tta="flip")
    runtime = Runtime(torch.device("cpu"))
    counts = Evaluator(dataset, runtime, IMAGENET, views=views).count(run.model)
    expected = 0
    for index in range(len(dataset)):
        example = dataset[index]
        mean = averaged(run.model, image_to_tensor(example.image, IMAGENET), views)
        label = torch.from_numpy(example.label.astype(np.int64))
        expected += int((mean.argmax(0) == label).sum())
    assert abs(int(counts.matrix.trace()) - expected) <= 2  # ties


def test_each_head_has_its_average() -> None:
    torch.manual_seed(0)
    trunk = VGG16Trunk(width=1 / 32)
    heads = {name: Head(trunk, count) for name, count in (("semantic", 5), ("geometric", 3))}
    model = MultiHeadFCN(trunk, heads).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = torch.randn(3, 40, 33)
    views = Views(tile=30, overlap=5, tta="1.5,flip")
    labels = segment(model, image, Runtime(torch.device("cpu")), views)
    assert list(labels) == ["semantic", "geometric"]
    for name, found in labels.items():
        agree(torch.from_numpy(found), averaged(OneOf(model, name), image, views))


class OneOf(torch.nn.Module):
    """One head's logits."""

    def __init__(self, model: MultiHeadFCN, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.num_classes = model.heads[name].num_classes

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)[self.name]
        return logits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile", "-1"), "--tile must be >= 1, or 0 for the whole image, got -1"),
        (("--tile", "9" * 24), f"--tile must be <= {2**31 - 1}, got {'9' * 24}"),
        (("--overlap", "4"), "--overlap has no meaning without --tile"),
        (("--tile-weights", "linear"), "--tile-weights has no meaning without --tile"),
        (("--tta", "flip,large"), "such as flip,0.75,1,1.25, got 'flip,large'"),
        (("--tta", "0"), "--tta must be none, or flip and different factors from 1/16 to 16"),
        (("--tta", "1,1.0"), "different factors"),
        (("--tta", "flip,nan"), "--tta must be"),
        (("--tta", "flip,flip"), "--tta must be"),
        (("--tile", "8", "--overlap", "8"), "--overlap must be in [0, --tile = 8), got 8"),
    ],
)
def test_windows_that_there_cannot_be(
    options: tuple[str, ...], message: str, finished_run: Path, command: Command, tmp_path: Path
) -> None:
    code, _, err = command(
        "predict", tmp_path, "--run", finished_run, "--output", tmp_path / "out", *options
    )
    assert code != 0
    assert message in err


def test_mirror_images_need_coarse_scores(finished_run: Path, command: Command) -> None:
    code, _, err = command("evaluate", "--run", finished_run, "--tta", "flip", "--logits", "full")
    assert code != 0
    assert "--tta averages coarse scores, got --logits full" in err
