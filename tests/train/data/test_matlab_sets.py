"""SBD, NYUDv2, SIFT Flow and PASCAL-Context, from small files in the original formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from fcn_train.data import (
    IMAGENET,
    NYUD_CLASS_NAMES,
    PASCAL_CONTEXT_33_CLASS_NAMES,
    PASCAL_CONTEXT_CLASS_NAMES,
    SIFT_FLOW_CLASS_NAMES,
    SIFT_FLOW_GEOMETRY_NAMES,
    VOC_CLASS_NAMES,
    DataError,
    EvaluationLoader,
    MemoryDataset,
    Nyud,
    PascalContext,
    SbdSegmentation,
    SiftFlow,
    TrainLoader,
    augmentation,
    check_dataset,
    check_split,
    fingerprint,
    open_dataset,
)

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def write_pair(image: Path, label: Path, content: dict[str, Any], size: tuple[int, int]) -> None:
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(image)
    savemat(label, content)


@pytest.fixture
def sbd_root(tmp_path: Path) -> Path:
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    values = np.arange(21, dtype=np.uint8).reshape(3, 7)
    for name in ("2008_000002", "2008_000003"):
        content = {"GTcls": {"Boundaries": 0, "Segmentation": values, "CategoriesPresent": 1}}
        write_pair(root / "img" / f"{name}.jpg", root / "cls" / f"{name}.mat", content, (7, 3))
    (root / "train.txt").write_text("2008_000003\n2008_000002\n")
    return root


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_sbd(sbd_root: Path, above: str) -> None:
    dataset = open_dataset("sbd", sbd_root / above, "train")
    assert dataset.ids == ["2008_000003", "2008_000002"]
    assert dataset.class_names == VOC_CLASS_NAMES
    assert dataset[0].label.ravel().tolist() == list(range(21))
    assert dataset[0].image[0, 0].tolist() == [10, 20, 30]


def test_sbd_takes_a_list_by_its_path(sbd_root: Path, tmp_path: Path) -> None:
    (tmp_path / "train_noval.txt").write_text("2008_000002\n")
    dataset = SbdSegmentation(sbd_root, str(tmp_path / "train_noval.txt"))
    assert dataset.ids == ["2008_000002"]


@pytest.fixture
def nyud_root(tmp_path: Path) -> Path:
    """Images, depth and HHA in `data`, labels and lists beside it, as the reference implementation
    reads them."""
    root = tmp_path / "nyud"
    values = np.arange(42, dtype=np.uint8).reshape(6, 7)
    values[-1, -1] = 0
    for number in ("5449", "6140"):
        image = root / "data" / "images" / f"img_{number}.png"
        label = root / "segmentation" / f"img_{number}.mat"
        write_pair(image, label, {"segmentation": values}, (7, 6))
        for folder, picture in (
            ("depth", Image.fromarray(np.full((6, 7), int(number), dtype=np.uint16))),
            ("hha", Image.new("RGB", (7, 6), (50, 60, 70))),
        ):
            (root / "data" / folder).mkdir(exist_ok=True)
            picture.save(root / "data" / folder / f"img_{number}.png")
    (root / "train.txt").write_text("5449\n")
    (root / "test.txt").write_text("6140\n")
    return root


def test_nyud_counts_from_one_and_its_zero_is_void(nyud_root: Path) -> None:
    for split, name in (("train", "5449"), ("test", "6140")):
        dataset = open_dataset("nyud", nyud_root, split)
        assert dataset.ids == [name]
        assert dataset.num_classes == len(NYUD_CLASS_NAMES) == 40
        assert dataset[0].label.ravel().tolist() == [255, *range(40), 255]


def test_folders_of_nyud_may_lie_side_by_side(nyud_root: Path) -> None:
    for name in ("segmentation", "train.txt"):
        shutil.move(nyud_root / name, nyud_root / "data" / name)
    for root in (nyud_root, nyud_root / "data"):
        assert open_dataset("nyud", root, "train")[0].label[0, 1] == 0


@pytest.mark.parametrize("channels", ["color", "hha", "color-depth", "color-hha"])
def test_nyud_has_depth_and_hha(nyud_root: Path, channels: str) -> None:
    example = open_dataset("nyud", nyud_root, "test", channels=channels)[0]
    assert (example.depth is not None) == ("depth" in channels)
    assert (example.hha is not None) == ("hha" in channels)
    if example.depth is not None:
        assert (example.depth == 6140).all()
    if example.hha is not None:
        assert (example.hha == (50, 60, 70)).all()


def test_trainval_of_nyud_is_both_lists(nyud_root: Path) -> None:
    (nyud_root / "val.txt").write_text("6140\n")
    assert open_dataset("nyud", nyud_root, "trainval").ids == ["5449", "6140"]
    (nyud_root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: list of images cannot be read"):
        open_dataset("nyud", nyud_root, "trainval")
    (nyud_root / "trainval.txt").write_text("6140\n")
    assert open_dataset("nyud", nyud_root, "trainval").ids == ["6140"]


def test_published_lists_of_nyud_are_795_together(nyud_root: Path, shared_data: Path) -> None:
    for split in ("train", "val"):
        shutil.copy(shared_data / "fcn_lists" / "data" / "nyud" / f"{split}.txt", nyud_root)
    dataset = open_dataset("nyud", nyud_root, "trainval")
    assert len(dataset) == len(set(dataset.ids)) == 795


def test_depth_of_another_size_is_named(nyud_root: Path, command: Callable[..., Any]) -> None:
    path = nyud_root / "data" / "depth" / "img_6140.png"
    Image.fromarray(np.ones((6, 8), dtype=np.uint16)).save(path)
    flags = ("--kind", "nyud", "--root", nyud_root, "--split", "test")
    assert command("data", "check", *flags)[0] == 0
    code, out, _ = command("data", "check", *flags, "--channels", "color-depth")
    assert code == 1
    image = nyud_root / "data" / "images" / "img_6140.png"
    assert out.startswith(f"{path}: is 8 x 6 pixels but its image {image} is 7 x 6; give both")
    path.unlink()
    code, out, _ = command("data", "check", *flags, "--channels", "color-depth")
    assert code == 1
    assert out.startswith(f"{path}: depth image is missing; restore the file or take it off")
    shutil.rmtree(nyud_root / "data" / "hha")
    with pytest.raises(DataError, match=r"hha: folder is missing; write it .* fcn data hha"):
        open_dataset("nyud", nyud_root, "test", channels="hha")


@pytest.fixture
def sift_flow_root(tmp_path: Path) -> Path:
    root = tmp_path / "SiftFlowDataset"
    semantic = np.arange(34, dtype=np.uint8).reshape(2, 17)
    geometric = np.resize(np.array([-1, 0, 1, 2, 3], dtype=np.int16), (2, 17))
    for name in ("coast_natu975", "street_urb1"):
        image = root / "Images" / SCENES / f"{name}.jpg"
        for folder, values in (("SemanticLabels", semantic), ("GeoLabels", geometric)):
            write_pair(image, root / folder / SCENES / f"{name}.mat", {"S": values}, (17, 2))
    (root / "test.txt").write_text("coast_natu975\n")
    return root


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
    assert (code, out, err) == (0, "SIFT Flow, test: 1 pairs, 0 problems\n", "")
    code, _, err = command(
        *("train", "--data.kind", "sift-flow", "--data.root", sift_flow_root),
        *("--data.train-split", "test", "--data.label-folder", BOTH),
    )
    assert code == 2
    assert err == (
        f"fcn: --data.label-folder {BOTH} names 2 sets of labels, and fcn train learns one; give "
        "SemanticLabels or GeoLabels\n"
    )
    code, out, _ = command("data", "stats", *flags, *both)
    assert code == 0
    assert "SIFT Flow, test, semantic: 1 images" in out
    assert "SIFT Flow, test, geometric: 1 images" in out
    savemat(path, {"S": np.ones((2, 16), np.int16)})
    code, out, _ = command("data", "check", *flags, *both)
    assert code == 1
    assert out.startswith(f"{path}: is 16 x 2 pixels but its image")
    path.unlink()
    code, out, _ = command("data", "check", *flags, *both)
    assert code == 1
    assert out.startswith(f"{path}: label is missing; restore the file or take it off the list")
    with pytest.raises(DataError, match=r"coast_natu975\.mat: label is missing"):
        check_split(SiftFlow(sift_flow_root, "test", label_folder=BOTH), training=True, warn=print)
    assert command("data", "check", *flags)[0] == 0


def test_sift_flow_needs_a_list(sift_flow_root: Path) -> None:
    with pytest.raises(DataError, match=r"trainval\.txt: list of images cannot be read"):
        SiftFlow(sift_flow_root)


VALUES = {0: 0, 1: 0, 2: 1, 3: 11, 4: 28, 5: 52}  # of the list below


@pytest.fixture
def context_root(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    others = [name for name in PASCAL_CONTEXT_CLASS_NAMES[2:]]
    for name in ("diningtable", "clothes", "bedcloth"):
        others.remove(name)
    names = ["accordion", "aeroplane", "table", "cloth", "bedclothes", *others]
    lines = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    values = np.array([list(VALUES)], dtype=np.uint16)
    year = root / "VOCdevkit" / "VOC2010"
    image = year / "JPEGImages" / "2008_000002.jpg"
    write_pair(image, root / "trainval" / "2008_000002.mat", {"LabelMap": values}, (6, 1))
    (root / "labels.txt").write_text("\n".join(lines))
    (year / "ImageSets" / "Main").mkdir(parents=True)
    (year / "ImageSets" / "Main" / "train.txt").write_text("2008_000002\n")
    return root


def test_pascal_context_merges_its_values_by_name(context_root: Path) -> None:
    assert [PASCAL_CONTEXT_CLASS_NAMES[i] for i in (11, 28, 52)] == [
        "diningtable",
        "clothes",
        "bedcloth",
    ]
    dataset = open_dataset("pascal-context", context_root, "train")
    assert dataset.num_classes == 60
    assert dataset[0].label.ravel().tolist() == list(VALUES.values())


def test_pascal_context_with_33_classes(context_root: Path) -> None:
    assert len(PASCAL_CONTEXT_33_CLASS_NAMES) == 34  # with background
    assert set(PASCAL_CONTEXT_33_CLASS_NAMES) < set(PASCAL_CONTEXT_CLASS_NAMES)
    finer = open_dataset("pascal-context", context_root, "train")
    dataset = open_dataset("pascal-context-33", context_root, "train")
    assert dataset.class_names == PASCAL_CONTEXT_33_CLASS_NAMES
    # All values that the list names, each where its class of the 59 is, or else background.
    values = np.array([range(1, 60)], dtype=np.uint16)
    savemat(context_root / "trainval" / "2008_000002.mat", {"LabelMap": values})
    image = context_root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000002.jpg"
    Image.new("RGB", (59, 1)).save(image)
    names = [PASCAL_CONTEXT_CLASS_NAMES[index] for index in finer[0].label.ravel()]
    expected = [name if name in PASCAL_CONTEXT_33_CLASS_NAMES else "background" for name in names]
    found = [PASCAL_CONTEXT_33_CLASS_NAMES[index] for index in dataset[0].label.ravel()]
    assert found == expected
    assert len(set(found)) == 34


def test_pascal_context_prefers_the_year_it_was_made_on(context_root: Path) -> None:
    later = context_root / "VOCdevkit" / "VOC2012" / "JPEGImages"
    later.mkdir(parents=True)
    dataset = PascalContext(context_root, "train")
    assert dataset.image_path(0).parts[-3:] == ("VOC2010", "JPEGImages", "2008_000002.jpg")


def test_pascal_context_asks_for_its_list_of_values(context_root: Path) -> None:
    listing = context_root / "labels.txt"
    listing.write_text(listing.read_text().replace("wood", "wool"))
    with pytest.raises(DataError, match=r"labels\.txt: does not name 'wood'; give"):
        PascalContext(context_root)
    published = "\n".join(f"{n}: {name}" for n, name in enumerate(["accordion", "aeroplane"], 1))
    for line, message in (
        ("accordion", r"has a line that is not `1\.\.459: name`: 'accordion'"),
        ("\N{SUPERSCRIPT TWO}: sky", r"has a line that is not `1\.\.459: name`"),
        ("0: sky", r"has a line that is not `1\.\.459: name`"),
        ("99999999999999: sky", r"has a line that is not `1\.\.459: name`"),
        ("3: aeroplane", "names a value or a class twice: '3: aeroplane'"),
        ("2: sky", "names a value or a class twice: '2: sky'"),
    ):
        listing.write_text(f"{published}\n{line}\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"labels\.txt: {message}"):
            PascalContext(context_root)
    listing.unlink()
    with pytest.raises(DataError, match=r"labels\.txt: list of the values of LabelMap cannot"):
        PascalContext(context_root)


def test_published_list_of_values_names_all_classes(context_root: Path, shared_data: Path) -> None:
    published = shared_data / "fcn_lists" / "data" / "pascal-context" / "classes-400.txt"
    shutil.copy(published, context_root / "labels.txt")
    listed = [line.split(": ") for line in published.read_text().splitlines() if ": " in line]
    values = np.array([[int(number) for number, _ in listed]], dtype=np.uint16)
    savemat(context_root / "trainval" / "2008_000002.mat", {"LabelMap": values})
    Image.new("RGB", (len(listed), 1)).save(
        context_root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000002.jpg"
    )
    label = PascalContext(context_root)[0].label.ravel().tolist()
    renamed = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    for (_, name), index in zip(listed, label, strict=True):
        name = renamed.get(name, name)
        expected = name if name in PASCAL_CONTEXT_CLASS_NAMES else "background"
        assert PASCAL_CONTEXT_CLASS_NAMES[index] == expected
    assert len(set(label)) == 60


def test_class_names_are_the_published_ones(shared_data: Path) -> None:
    lists = shared_data / "fcn_lists" / "data"

    def lines(name: str) -> list[str]:
        return (lists / name).read_text().splitlines()

    assert list(NYUD_CLASS_NAMES) == lines("nyud/classes.txt")[:40]
    numbered = [line[3:] for line in lines("sift-flow/classes.txt") if line[:2].isdecimal()]
    assert [*SIFT_FLOW_CLASS_NAMES, *SIFT_FLOW_GEOMETRY_NAMES] == numbered
    numbered = [line.split(": ")[1] for line in lines("pascal-context/classes-59.txt") if line]
    assert list(PASCAL_CONTEXT_CLASS_NAMES) == numbered


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_published_lists_of_nyud_name_the_files(
    nyud_root: Path, shared_data: Path, split: str
) -> None:
    listing = shared_data / "fcn_lists" / "data" / "nyud" / f"{split}.txt"
    dataset = Nyud(nyud_root, str(listing))
    assert len(dataset) == {"train": 381, "val": 414, "test": 654}[split]
    assert dataset.label_path(0).name == f"img_{dataset.ids[0]}.mat"


def test_values_without_a_class_are_named(sbd_root: Path) -> None:
    path = sbd_root / "cls" / "2008_000002.mat"
    values = np.zeros((3, 7), dtype=np.uint8)
    values[1, 2:4] = (21, 255)
    savemat(path, {"GTcls": {"Segmentation": values}})
    dataset = SbdSegmentation(sbd_root)
    with pytest.raises(DataError) as caught:
        dataset[1]
    assert str(caught.value).startswith(
        f"{path}: has label values that SBD has no class for: 21, 255 in 2 pixels, the first at "
        "row 1, column 2"
    )


def test_all_problems_are_found_beforehand(sbd_root: Path) -> None:
    (sbd_root / "cls" / "2008_000002.mat").unlink()
    wider = {"Segmentation": np.zeros((3, 8), np.uint8)}
    savemat(sbd_root / "cls" / "2008_000003.mat", {"GTcls": wider})
    problems = check_dataset(SbdSegmentation(sbd_root, strict=False))
    assert [problem.message.split(";")[0] for problem in problems] == [
        f"is 8 x 3 pixels but its image {sbd_root / 'img' / '2008_000003.jpg'} is 7 x 3",
        "label is missing",
    ]


def test_the_program_takes_them(
    sbd_root: Path, sift_flow_root: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    check = ("data", "check", "--kind", "sift-flow", "--root", sift_flow_root, "--split", "test")
    code, out, _ = command(*check, "--label-folder", "GeoLabels")
    assert (code, out) == (0, "SIFT Flow, test: 1 pairs, 0 problems\n")
    data = ("--data.kind", "sbd", "--data.root", sbd_root, "--data.val-split", "train")
    small = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    short = ("--optim.batch", "2", "--optim.steps", "2", "--threads", "1")
    code, _, _ = command("train", *data, *small, *short, "--output", tmp_path / "run")
    assert code == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("kind", ["sbd", "nyud", "sift-flow"])
def test_missing_folders_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder is missing; give the folder that holds"):
        open_dataset(kind, tmp_path, "train")
    assert len(open_dataset(kind, tmp_path, "train", strict=False).problems) >= 2


def test_pascal_context_names_the_folders_it_lacks(context_root: Path) -> None:
    shutil.rmtree(context_root / "trainval")
    shutil.rmtree(context_root / "VOCdevkit")
    problems = PascalContext(context_root, strict=False).problems
    assert [problem.path.name for problem in problems] == ["JPEGImages", "trainval", "train.txt"]
