"""SIFT Flow, from small files in the original format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from fcn_train.data import (
    IMAGENET,
    SIFT_FLOW_CLASS_NAMES,
    SIFT_FLOW_GEOMETRY_NAMES,
    DataError,
    EvaluationLoader,
    MemoryDataset,
    SiftFlow,
    TrainLoader,
    augmentation,
    check_split,
    fingerprint,
    open_dataset,
)

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


@pytest.fixture
def sift_flow_root(tmp_path: Path, write_matlab_pair: Callable[..., None]) -> Path:
    root = tmp_path / "SiftFlowDataset"
    semantic = np.arange(34, dtype=np.uint8).reshape(2, 17)
    geometric = np.resize(np.array([-1, 0, 1, 2, 3], dtype=np.int16), (2, 17))
    for name in ("coast_natu975", "street_urb1"):
        image = root / "Images" / SCENES / f"{name}.jpg"
        for folder, values in (("SemanticLabels", semantic), ("GeoLabels", geometric)):
            write_matlab_pair(image, root / folder / SCENES / f"{name}.mat", {"S": values}, (17, 2))
    (root / "test.txt").write_text("coast_natu975\n")
    return root


def test_class_names_of_sift_flow_are_the_published_ones(shared_data: Path) -> None:
    published = shared_data / "fcn_lists" / "data" / "sift-flow" / "classes.txt"
    lines = published.read_text().splitlines()
    numbered = [line[3:] for line in lines if line[:2].isdecimal()]
    assert [*SIFT_FLOW_CLASS_NAMES, *SIFT_FLOW_GEOMETRY_NAMES] == numbered


def test_sift_flow_has_two_sets_of_labels(sift_flow_root: Path) -> None:
    semantic = open_dataset("sift-flow", sift_flow_root.parent, "test")
    assert semantic.class_names == SIFT_FLOW_CLASS_NAMES
    assert semantic[0].label.ravel().tolist() == [255, *range(33)]
    geometric = open_dataset("sift-flow", sift_flow_root, "test", label_folder="GeoLabels")
    assert geometric.class_names == SIFT_FLOW_GEOMETRY_NAMES
    assert geometric[0].label.ravel().tolist()[:6] == [255, 255, 0, 1, 2, 255]
    with pytest.raises(DataError, match=r"Depth: holds no labels .* give SemanticLabels, Geo"):
        SiftFlow(sift_flow_root, "test", label_folder="Depth")


BOTH = "SemanticLabels,GeoLabels"


def test_sift_flow_gives_both_sets_of_labels_at_once(sift_flow_root: Path) -> None:
    both = open_dataset("sift-flow", sift_flow_root, "test", label_folder=BOTH)
    assert [labels.name for labels in both.label_sets] == ["semantic", "geometric"]
    assert [labels.num_classes for labels in both.label_sets] == [33, 3]
    for which, folder in enumerate(BOTH.split(",")):
        alone = open_dataset("sift-flow", sift_flow_root, "test", label_folder=folder)
        assert both.only(which)[0] == both[0].only(which) == alone[0]
        assert both.only(which).class_names == alone.class_names
        assert fingerprint(both.only(which)) == fingerprint(alone) != fingerprint(both)
    held = MemoryDataset(both)
    assert held[0] == both[0]
    assert held.only(1)[0] == both.only(1)[0]
    turned = open_dataset(
        "sift-flow", sift_flow_root, "test", label_folder="GeoLabels,SemanticLabels"
    )
    assert turned[0].label.tolist() == both[0].labels[1].tolist()
    with pytest.raises(DataError, match=r"GeoLabels: holds no labels of SIFT Flow"):
        SiftFlow(sift_flow_root, "test", label_folder="GeoLabels,GeoLabels")


def test_loaders_give_a_target_for_each_set(sift_flow_root: Path) -> None:
    both = open_dataset("sift-flow", sift_flow_root, "test", label_folder=BOTH)
    batches = [*EvaluationLoader(both, IMAGENET)]
    loader = TrainLoader(both, augmentation(crop=8), IMAGENET, batch_size=2, workers=1)
    batches += loader.batches(0, 1)
    for batch, size in zip(batches, ((1, 2, 17), (2, 8, 8)), strict=True):
        assert [target.shape for target in (batch.targets, *batch.more_targets)] == [size] * 2
    assert torch.equal(batches[0].more_targets[0][0], torch.from_numpy(both[0].labels[1]))


def test_a_label_without_its_partner_is_named(
    sift_flow_root: Path, command: Callable[..., Any]
) -> None:
    path = sift_flow_root / "GeoLabels" / SCENES / "coast_natu975.mat"
    flags = ("--kind", "sift-flow", "--root", sift_flow_root, "--split", "test")
    both = ("--label-folder", BOTH)
    code, out, err = command("data", "check", *flags, *both)
    assert (code, out, err) == (0, "SIFT Flow, test: 1 pair, 0 problems\n", "")
    code, out, _ = command("data", "stats", *flags, *both)
    assert code == 0
    assert "SIFT Flow, test, semantic: 1 image:" in out
    assert "SIFT Flow, test, geometric: 1 image:" in out
    savemat(path, {"S": np.ones((2, 16), np.int16)})
    code, out, _ = command("data", "check", *flags, *both)
    assert code == 1
    assert out.startswith(f"{path}: is 16 x 2 pixels but its image")
    path.unlink()
    code, out, _ = command("data", "check", *flags, *both)
    assert code == 1
    assert out.startswith(f"{path}: label is missing; restore the file or take it off the list")
    code, _, err = command(
        *("train", "--data.kind", "sift-flow", "--data.root", sift_flow_root),
        *("--data.train-split", "test", "--data.label-folder", BOTH),
    )
    assert code == 2
    assert err.startswith(f"fcn: {path}: label is missing; restore the file")
    with pytest.raises(DataError, match=r"coast_natu975\.mat: label is missing"):
        check_split(SiftFlow(sift_flow_root, "test", label_folder=BOTH), training=True, warn=print)
    assert command("data", "check", *flags)[0] == 0


def test_sift_flow_needs_a_list(sift_flow_root: Path) -> None:
    with pytest.raises(DataError, match=r"trainval\.txt: list of images cannot be read"):
        SiftFlow(sift_flow_root)


def test_the_program_checks_one_set_of_sift_flow(
    sift_flow_root: Path, command: Callable[..., Any]
) -> None:
    check = ("data", "check", "--kind", "sift-flow", "--root", sift_flow_root, "--split", "test")
    code, out, _ = command(*check, "--label-folder", "GeoLabels")
    assert (code, out) == (0, "SIFT Flow, test: 1 pair, 0 problems\n")
