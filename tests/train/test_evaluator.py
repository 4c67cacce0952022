"""Scores of a split: streamed, at native size, the same for any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fcn_ext import metrics
from fcn_ext.geometry import Deconvolution
from fcn_ext.models import CoarseScores
from fcn_train.data import IMAGENET, open_dataset
from fcn_train.evaluator import Evaluator, spread
from fcn_train.options import Logits
from fcn_train.per_image import ImageCounts
from fcn_train.runtime import Runtime

RUNTIME = Runtime(torch.device("cpu"))


class ByBrightness(CoarseScores):
    """Class 0 where an image is dark, class 7 where it is bright; remembers what it was given."""

    num_classes, geometry = 21, Deconvolution(1)

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def scores(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        assert not self.training
        logits = images.new_zeros(len(images), 21, *images.shape[2:])
        logits[:, 7] = images.mean(1)
        return logits


def expected_matrix(root: Path) -> np.ndarray:
    dataset = open_dataset("sample", root, "train")
    matrix = np.zeros((21, 21), dtype=np.int64)
    for index in range(len(dataset)):
        image, label = dataset[index]
        normalized = (image.astype(np.float32) - IMAGENET.mean) / IMAGENET.std
        prediction = np.where(normalized.mean(2) > 0, 7, 0)
        valid = label != 255
        np.add.at(matrix, (label[valid], prediction[valid]), 1)
    return matrix


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("by_image", [False, True])
def test_scores_are_those_of_the_pixels(
    by_image: bool, batch: int, logits: Logits, sample_root: Path
) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    model = ByBrightness().train()
    seen: list[int] = []
    evaluator = Evaluator(dataset, RUNTIME, IMAGENET, batch=batch, logits=logits)
    matrix = evaluator.count(model, seen.append, ImageCounts() if by_image else None)
    scores = matrix.compute()
    expected = expected_matrix(sample_root)
    np.testing.assert_array_equal(matrix.matrix.numpy(), expected)
    assert scores.mean_iu == metrics.scores_from_matrix(torch.from_numpy(expected)).mean_iu
    assert sum(seen) == len(dataset) == sum(shape[0] for shape in model.batches)
    assert max(shape[0] for shape in model.batches) <= batch
    assert model.training


def test_pictures_show_examples_of_the_whole_split(sample_root: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    rows = Evaluator(dataset, RUNTIME, IMAGENET).pictures(ByBrightness(), spread(len(dataset), 2))
    assert [row.name for row in rows] == [dataset.ids[1], dataset.ids[4]]
    for row in rows:
        assert row.image.shape[:2] == row.target.shape == row.prediction.shape
        assert set(np.unique(row.prediction)) <= {0, 7}
    assert spread(3, 8) == [0, 1, 2]
