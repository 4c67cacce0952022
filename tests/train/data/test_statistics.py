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


def test_depth_is_counted_where_it_is_read(
    root: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    depths = {"a": [[0, 1000, 2000, 0], [0, 0, 4000, 8000]], "b": [[0, 500], [600, 700]]}
    hhas = {"a": (100, 40, 128), "b": (50, 60, 38)}
    for folder in ("depth", "hha"):
        (root / folder).mkdir()
    for stem, values in depths.items():
        depth = np.array(values, dtype=np.uint16)
        hha = np.where(depth[:, :, None] > 0, hhas[stem], 0).astype(np.uint8)
        Image.fromarray(depth).save(root / "depth" / f"{stem}.png")
        Image.fromarray(hha).save(root / "hha" / f"{stem}.png")
    known = np.array([1000, 2000, 4000, 8000, 500, 600, 700])
    statistics = dataset_statistics(FolderSegmentation(root, num_classes=4, channels="color-depth"))
    assert statistics.depth["missing"] == pytest.approx(5 / 12)
    assert statistics.depth["log_mean"] == pytest.approx(np.log(known).mean(), abs=1e-12)
    statistics = dataset_statistics(FolderSegmentation(root, num_classes=4, channels="hha"))
    expected = (4 * np.array(hhas["a"]) + 3 * np.array(hhas["b"])) / 7
    assert statistics.depth == {"hha_mean": pytest.approx(expected.tolist())}
    assert dataset_statistics(FolderSegmentation(root, num_classes=4)).depth == {}

    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    flags = ("data", "stats", "--kind", "folder", "--root", root, "--split", "")
    output = tmp_path / "stats.json"
    code, out, _ = command(*flags, "--channels", "color-depth", "--output", output)
    assert code == 0
    assert "depth: missing in 41.67 % of the pixels, mean logarithm of its millimeters 7." in out
    assert json.loads(output.read_text())["depth"]["missing"] == pytest.approx(5 / 12)
    code, out, _ = command(*flags, "--channels", "hha")
    assert "HHA mean 78.57, 48.57, 89.43 (networks see it minus 132.43, 94.08, 118.48)" in out
    code, out, _ = command(*flags)
    assert "depth:" not in out
    assert "HHA" not in out
