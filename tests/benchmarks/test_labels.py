"""The label maps look like what is counted in practice."""

from __future__ import annotations

import numpy as np

from benchmarks.labels import random_labels, region_labels


def test_regions_mostly_agree() -> None:
    prediction, target = region_labels(4, 21, 200, 300, 255)
    valid = target != 255
    assert 0.01 < 1 - valid.mean() < 0.15
    assert 0.8 < (prediction == target)[valid].mean() < 0.99
    assert set(np.unique(target)) <= {*range(21), 255}
    assert set(np.unique(prediction)) <= set(range(21))
    # Piecewise constant: hardly a pixel differs from its neighbor.
    assert (prediction[:, :, 1:] != prediction[:, :, :-1]).mean() < 0.05


def test_random_labels_agree_by_chance() -> None:
    prediction, target = random_labels(2, 10, 200, 300, 255)
    assert abs((prediction == target)[target != 255].mean() - 0.1) < 0.01
    assert abs((target == 255).mean() - 0.05) < 0.01


def test_seeded() -> None:
    for draw in (region_labels, random_labels):
        assert all(map(np.array_equal, draw(1, 5, 60, 50, 255), draw(1, 5, 60, 50, 255)))
