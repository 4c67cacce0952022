from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import FolderSegmentation, dataset_statistics


@pytest.fixture
def root(tmp_path: Path, write_label: Callable[[Path, np.ndarray], None]) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    colors = {"a": (10, 20, 30), "b": (30, 20, 10)}
    labels = {
        "a": np.array([[0, 0, 0, 255], [0, 1, 1, 255]], dtype=np.uint8),
        "b": np.array([[0, 0], [0, 2]], dtype=np.uint8),
    }
    for stem, label in labels.items():
        Image.new("RGB", label.shape[::-1], colors[stem]).save(tmp_path / "images" / f"{stem}.png")
        write_label(tmp_path / "labels" / f"{stem}.png", label)
    return tmp_path


def test_counts_are_those_of_the_files(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    statistics = dataset_statistics(
        FolderSegmentation(root, num_classes=4), lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 2), (2, 2)]
    assert statistics.num_images == 2
    assert statistics.pixels.tolist() == [7, 2, 1, 0]
    assert statistics.images.tolist() == [2, 1, 1, 0]
    assert statistics.shared_pixels.tolist() == [10, 6, 4, 0]
    assert statistics.void_pixels == 2
    assert statistics.void_share == pytest.approx(2 / 12)
    assert statistics.sizes == {(2, 4): 1, (2, 2): 1}
    assert statistics.mean == pytest.approx([200 / 12, 20, 280 / 12])
    assert statistics.std == pytest.approx([np.sqrt(800 / 9), 0, np.sqrt(800 / 9)])


def test_weights_are_median_frequency_over_frequency(root: Path) -> None:
    weights = dataset_statistics(FolderSegmentation(root, num_classes=4)).median_frequency_weights()
    frequency = np.array([7 / 10, 2 / 6, 1 / 4])
    assert weights == pytest.approx([*(1 / 3 / frequency), 1.0])


def test_statistics_become_json(root: Path) -> None:
    statistics = dataset_statistics(FolderSegmentation(root, num_classes=4))
    values = json.loads(json.dumps(statistics.as_dict()))
    assert values["num_images"] == 2
    assert values["classes"][1] == {"name": "class 1", "pixels": 2, "images": 1, "weight": 1.0}
    assert values["sizes"][0] == {"height": 2, "width": 4, "images": 1}


def test_statistics_are_compared_by_their_counts(root: Path) -> None:
    first, second = (dataset_statistics(FolderSegmentation(root, num_classes=4)) for _ in "ab")
    assert first == second
    for name, value in (
        ("void_pixels", 0),
        ("pixels", first.pixels + 1),
        ("pixels", first.pixels[:2]),
        ("class_names", ("x",)),
        ("sizes", {}),
    ):
        assert first != replace(first, **{name: value})
    assert first != "statistics"
