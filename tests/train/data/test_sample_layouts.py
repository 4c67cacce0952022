"""The sample in the layouts of published sets: read by the reader of each, the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from fcn_train.data import (
    DataError,
    Example,
    SegmentationDataset,
    check_dataset,
    hha_from_depth,
    open_dataset,
    write_sample_dataset,
)
from fcn_train.data.layouts import looks_like
from fcn_train.data.sample_layouts import LAYOUTS
from fcn_train.data.scene import draw_scene
from fcn_train.data.scene_depth import SAMPLE_GEOMETRY_NAMES, scene_camera
from fcn_train.data_options import SampleLayout, default_splits

SIZES = {"train": 3, "val": 2, "size": 48}
OTHERS = [name for name in LAYOUTS if name != "voc"]


def splits(layout: str, root: Path, **options: Any) -> list[SegmentationDataset]:
    kind = LAYOUTS[layout].kind
    return [open_dataset(kind, root, split, **options) for split in default_splits(kind)]


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> list[SegmentationDataset]:
    root = write_sample_dataset(tmp_path_factory.mktemp("voc") / "data", **SIZES)
    return splits("voc", root)


def test_the_option_has_every_layout() -> None:
    assert set(get_args(SampleLayout)) == set(LAYOUTS)


@pytest.mark.parametrize("layout", OTHERS)
def test_each_layout_holds_the_same_pictures(
    layout: str, voc: list[SegmentationDataset], tmp_path: Path
) -> None:
    root = write_sample_dataset(tmp_path / "data", layout=layout, **SIZES)
    assert {path.name for path in root.iterdir()} == {"sample.json", *LAYOUTS[layout].contents}
    assert LAYOUTS[layout].kind in looks_like(root)
    for dataset, expected in zip(splits(layout, root), voc, strict=True):
        assert check_dataset(dataset) == []
        assert len(dataset) == len(expected)
        for index, place in enumerate(np.argsort(dataset.ids)):  # trainval of nyud is two lists
            image, label = dataset[place]
            wanted = expected[index].label
            if layout != "nyud-mat":  # whose pictures have one size
                assert image.shape[:2] == wanted.shape
                assert np.abs(image.astype(int) - expected[index].image).mean() < 12  # JPEG
                void = 0 if layout in ("sbd", "pascal-context") else 255
                if dataset.num_classes < 21:
                    wanted = np.where(wanted == 255, 255, (wanted.astype(int) + 1) // 2)
                assert np.array_equal(label, np.where(wanted == 255, void, wanted))


@pytest.mark.parametrize("layout", ["nyud", "nyud-mat", "folder"])
def test_depth_and_hha_are_those_of_the_scene(layout: str, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout=layout, **SIZES)
    for depth_set, hha_set in zip(
        splits(layout, root, channels="color-depth"),
        splits(layout, root, channels="color-hha"),
        strict=True,
    ):
        assert check_dataset(depth_set) == check_dataset(hha_set) == []
        depth = depth_set[0].depth
        assert depth is not None
        assert set(np.unique(depth[depth_set[0].label == 255])) == {0}
        assert depth.max() <= 10000
        if layout != "nyud-mat":  # which is read with NYUDv2's camera
            expected = hha_from_depth(depth, scene_camera(*depth.shape))
            assert np.array_equal(hha_set[0].hha, expected)  # type: ignore[arg-type]


def test_scenes_know_where_their_surfaces_lie() -> None:
    seen = set()
    for seed in range(12):
        image, label, geometry, depth = _parts(draw_scene([3, 8], 96, 128, _rng(seed)))
        sky, horizontal, vertical = (
            geometry == SAMPLE_GEOMETRY_NAMES.index(name)
            for name in ("sky", "horizontal", "vertical")
        )
        assert image.shape[:2] == label.shape == geometry.shape == depth.shape
        assert np.array_equal(geometry == 255, label == 255)
        assert vertical[(label > 0) & (label < 255)].all()
        assert not depth[sky | (label == 255)].any()
        assert (depth[horizontal | vertical] > 0).all()
        # What is drawn later is nearer.
        if (label == 3).any() and (label == 8).any():
            assert depth[label == 8].max() < depth[label == 3].min()
        if horizontal.any():
            column = np.flatnonzero(horizontal.sum(0) > 20)[0]
            ground = depth[horizontal[:, column], column]
            assert (np.diff(ground.astype(int)) <= 0).all()
        seen |= {sky.any() or horizontal.any()}
    assert seen == {True, False}  # scenes with a horizon and without


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _parts(example: Example) -> tuple[np.ndarray, ...]:
    assert example.depth is not None
    return example.image, example.label, example.more_labels[0], example.depth


@pytest.mark.parametrize(
    ("layout", "split", "folders"),
    [
        ("sift-flow", "trainval", "SemanticLabels,GeoLabels"),
        ("folder", "train", "labels,geometry"),
    ],
)
def test_geometry_is_the_second_set_of_labels(
    layout: str, split: str, folders: str, tmp_path: Path
) -> None:
    root = write_sample_dataset(tmp_path / "data", layout=layout, **SIZES)
    both = open_dataset(layout, root, split, label_folder=folders)
    assert check_dataset(both) == []
    assert both.label_sets[1].class_names == SAMPLE_GEOMETRY_NAMES
    for index in range(len(both)):
        semantic, geometric = both[index].labels
        assert np.array_equal(semantic == 255, geometric == 255)
        objects = (semantic > 0) & (semantic < 255)
        assert (geometric[objects] == SAMPLE_GEOMETRY_NAMES.index("vertical")).all()


def test_one_layout_replaces_another_and_nothing_else(tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="nyud", **SIZES)
    write_sample_dataset(root, layout="ade20k", **SIZES)
    assert {path.name for path in root.iterdir()} == {"sample.json", "images", "annotations"}
    with pytest.raises(DataError, match="no sample data set"):
        open_dataset("sample", root, "train")
    (root / "data").mkdir()
    with pytest.raises(DataError, match=r"holds more than an older sample data set \(data\)"):
        write_sample_dataset(root, layout="voc", **SIZES)
    with pytest.raises(ValueError, match=r"layout must be one of voc, .*, got 'coco'"):
        write_sample_dataset(tmp_path / "other", layout="coco")


def test_command_says_how_to_train_on_it(command: Callable[..., Any], in_folder: Path) -> None:
    sizes = ("--train", "2", "--val", "1", "--size", "48")
    code, out, _ = command("data", "sample", "--layout", "nyud", *sizes)
    assert code == 0
    root = "runs/sample-nyud"
    how = f"fcn train --data.kind nyud --data.root {root}"
    assert out == f"{root}: 2 train images and 1 val image; {how}\n"
    code, out, _ = command("data", "check", "--kind", "nyud", "--root", root)
    assert code == 0
    code, out, _ = command("data", "sample", *sizes)
    assert out == "runs/sample-data: 2 train images and 1 val image\n"
