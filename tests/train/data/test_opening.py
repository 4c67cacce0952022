"""From options to splits: what reading options say is saved with a run and honored by all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fcn_train.data import DataError, fingerprint
from fcn_train.data.opening import SAMPLE_ROOT, of_kind, open_split, open_splits
from fcn_train.data_options import CheckOptions, ReadingOptions, StatsOptions
from fcn_train.errors import UsageError
from fcn_train.options import DataOptions

Command = Callable[..., tuple[int, str, str]]

TINY = (
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "16"),
    *("--optim.batch", "2", "--optim.steps", "2", "--threads", "1"),
)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Four images with masks of 0 and 255, called x_mask.png, in the layout of kind folder."""
    root = tmp_path / "mine"
    for name in ("photos", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        mask = np.zeros((20, 24), dtype=np.uint8)
        mask[5:15, 4 + index : 14 + index] = 255
        pixels = rng.integers(0, 80, (20, 24, 3), dtype=np.uint8) + (mask // 2)[:, :, None]
        Image.fromarray(pixels).save(root / "photos" / f"{index}.jpg")
        Image.fromarray(mask).save(root / "masks" / f"{index}_mask.png")
    (root / "names.txt").write_text("ground\nthing\n")
    (root / "train.txt").write_text("0\n1\n2\n")
    (root / "val.txt").write_text("3\n")
    return root


def reading(root: Path) -> list[str]:
    return [
        *("--kind", "folder", "--root", str(root), "--image-folder", "photos"),
        *("--label-folder", "masks", "--label-suffix", "_mask.png"),
        *("--classes", str(root / "names.txt"), "--label-map", "0=0,255=1"),
    ]


def test_every_command_reads_as_told(masks: Path, command: Command, tmp_path: Path) -> None:
    flags = reading(masks)
    code, out, err = command("data", "check", *flags)
    assert (code, err) == (0, ""), out
    assert out.splitlines() == [
        "mine, train: 3 pairs, 0 problems",
        "mine, val: 1 pair, 0 problems",
    ]
    code, out, _ = command("data", "stats", *flags, "--output", tmp_path / "stats.json")
    assert code == 0
    rows = json.loads((tmp_path / "stats.json").read_text())["classes"]
    assert [(row["name"], row["pixels"]) for row in rows] == [("ground", 1140), ("thing", 300)]

    run = tmp_path / "run"
    of_train = [f"--data.{flag[2:]}" if flag.startswith("--") else flag for flag in flags]
    code, _, err = command("train", *of_train, *TINY, "--output", run)
    assert code == 0, err
    saved = json.loads((run / "config.json").read_text())["data"]
    assert (saved["label_map"], saved["label_suffix"]) == ("0=0,255=1", "_mask.png")
    metrics = json.loads((run / "metrics.json").read_text())
    assert [row["target_pixels"] for row in metrics["classes"]] == [380, 100]

    code, _, err = command("evaluate", "--run", run, "--split", "train", "--output", tmp_path / "e")
    assert code == 0, err
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert [row["target_pixels"] for row in metrics["classes"]] == [1140, 300]
    code, out, _ = command("predict", masks / "photos", "--run", run, "--output", tmp_path / "p")
    assert code == 0
    assert "4 of 4 images" in out


def test_masks_of_0_and_255_are_refused_with_the_option_of_each_command(
    masks: Path, command: Command, tmp_path: Path
) -> None:
    flags = reading(masks)[:-2]
    code, out, _ = command("data", "check", *flags)
    assert code == 1
    assert out.count("give --label-map 0=0,255=1") == 2
    code, _, err = command("data", "stats", *flags)
    assert code == 0
    assert "give --label-map 0=0,255=1" in err
    of_train = [f"--data.{flag[2:]}" if flag.startswith("--") else flag for flag in flags]
    code, _, err = command("train", *of_train, *TINY, "--output", tmp_path / "run")
    assert code == 2
    assert err.count("\n") == 1
    assert "one class alone, 'ground' (and void)" in err
    assert "give --data.label-map 0=0,255=1" in err
    assert not (tmp_path / "run").exists()


def test_evaluation_of_void_or_one_class_says_so(
    masks: Path, command: Command, tmp_path: Path
) -> None:
    flags = reading(masks)
    of_train = [f"--data.{flag[2:]}" if flag.startswith("--") else flag for flag in flags]
    run = tmp_path / "run"
    assert command("train", *of_train, *TINY, "--output", run)[0] == 0
    Image.new("L", (24, 20), 0).save(masks / "masks" / "3_mask.png")
    code, _, err = command("evaluate", "--run", run)
    assert code == 0
    assert err.splitlines()[0].startswith("warning: ")
    assert "pixels of one class alone, 'ground'" in err
    assert "val.txt: no pixel of 1 of 2 classes: thing" in err
    config = json.loads((run / "config.json").read_text())
    config["data"]["label_map"] = "0=void,255=1"
    (run / "config.json").write_text(json.dumps(config))
    code, _, err = command("evaluate", "--run", run)
    assert code == 2
    assert "labels hold nothing but void" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--label-map", "x"), "--label-map must be VALUE=CLASS"),
        (("--label-map", "0=0,1=7"), "--label-map names class 7, but the classes are 0..1"),
        (("--void-label", "256"), "--void-label must be in 0..255, got 256"),
        (
            ("--label-map", "0=0", "--first-class", "1"),
            "--label-map and --first-class exclude each other",
        ),
        (("--classes", "absent.txt"), "absent.txt: list of class names cannot be read"),
        (("--label-colors", "absent.txt"), "absent.txt: list of label colors cannot be read"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    flags: tuple[str, ...], message: str, masks: Path, command: Command
) -> None:
    for verb in ("check", "stats"):
        code, _, err = command("data", verb, *reading(masks)[:-2], *flags)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"fcn: {message}")


@pytest.mark.parametrize(
    ("colors", "more", "message"),
    [
        ("0 0 0", (), "{} must hold one color per class, got 1 for 2 classes"),
        ("0 0 0\n1 1 1\n2 2 2", (), "{} must hold one color per class, got 3 for 2 classes"),
        ("0 0 0\n1 1 1", ("--first-class", "1"), "{} and --first-class exclude each other"),
        ("0 0 0\n1 1 1", ("--void-label", "1"), "--void-label and {} exclude each other"),
        ("0 0 0\n1 1 1", ("--label-map", "0=0"), "--label-map and {} exclude each other"),
    ],
)
def test_colors_that_do_not_fit_name_their_file(
    colors: str, more: tuple[str, ...], message: str, masks: Path, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "colors of mine.txt"
    path.write_text(colors)
    flags = [*reading(masks)[:-2], "--label-colors", str(path), *more]
    code, _, err = command("data", "check", *flags)
    assert code == 2
    assert err.startswith(f"fcn: {message.format(f'--label-colors {path}')}")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("camvid", "void_label", 0),
        ("sbd", "label_map", "0=0"),
        ("nyud", "classes", Path("x")),
        ("sift-flow", "label_suffix", "x"),
        ("pascal-context", "image_folder", "x"),
        ("sample", "label_colors", "voc"),
        ("camvid", "exif", "upright"),
    ],
)
def test_options_without_meaning_for_a_kind_are_refused(
    kind: str, name: str, value: object, sample_root: Path
) -> None:
    options = replace(DataOptions(root=sample_root), **{"kind": kind, name: value})  # type: ignore[arg-type]
    option = name.replace("_", "-")
    with pytest.raises(UsageError, match=f"--data.{option} has no meaning for --data.kind {kind}"):
        open_split(options, "train")


def test_commands_share_the_options_of_reading() -> None:
    shared = {item.name for item in fields(ReadingOptions)}
    for options in (DataOptions, CheckOptions, StatsOptions):
        assert shared <= {item.name for item in fields(options)}


def test_another_kind_is_read_by_its_own_rules() -> None:
    options = DataOptions(root=Path("x"), kind="folder", label_map="0=0", exif="upright", crop=7)
    assert of_kind(options, "voc") == DataOptions(kind="voc", crop=7)
    seen = replace(options, channels="hha", depth_folder="x")
    assert of_kind(seen, "nyud") == DataOptions(kind="nyud", crop=7, channels="hha")


@pytest.mark.parametrize("state", ["absent", "empty", "full", "voc"])
def test_a_folder_without_its_kind_is_never_written_to(
    state: str, command: Command, in_folder: Path
) -> None:
    root = in_folder / "mine"
    if state != "absent":
        root.mkdir()
    if state == "full":
        (root / "precious.txt").write_text("mine")
    if state == "voc":
        (root / "JPEGImages").mkdir()
    before = sorted(in_folder.rglob("*"))
    code, _, err = command("train", "--data.root", root)
    assert code == 2
    assert err.startswith(f"fcn: {root}: holds no sample data set; ")
    assert "remove" not in err
    told = {
        "absent": f"write the sample with: fcn data sample --root {root}",
        "voc": "it looks like --data.kind voc",
    }
    assert told.get(state, "--data.kind, one of sample, voc") in err
    assert sorted(in_folder.rglob("*")) == before


def test_the_wrong_kind_is_answered_with_the_right_one(voc_root: Path) -> None:
    for kind in ("sbd", "nyud"):
        options = replace(DataOptions(root=voc_root), kind=kind)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"looks like --data\.kind voc"):
            open_split(options, "train")
        problems = open_split(options, "train", strict=False, prefix="--").problems
        assert str(list(problems)[-1]) == f"{voc_root}: looks like --kind voc; give that"
    fitting = replace(DataOptions(root=voc_root), kind="voc")
    assert not any(
        "looks like" in str(one) for one in open_split(fitting, "x", strict=False).problems
    )


@pytest.mark.parametrize("kind", ["folder", "voc", "camvid", "sift-flow"])
def test_a_folder_that_is_not_there_is_told_with_its_option(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a run's data may have been given from another folder."""
    monkeypatch.chdir(tmp_path)
    for root, place in (
        (Path("data"), " in the folder where fcn was started"),
        (tmp_path / "data", ""),
    ):
        with pytest.raises(DataError) as caught:
            open_split(DataOptions(kind=kind, root=root), "train")
        text = f"{root}: is missing{place}; give the data set's folder: --data.root"
        assert str(caught.value) == text


def test_the_sample_is_of_kind_voc_too(sample_root: Path) -> None:
    options = DataOptions(kind="voc", root=sample_root)
    with pytest.raises(DataError) as caught:
        open_split(options, "absent")
    problems = open_split(options, "absent", strict=False).problems
    assert not any("looks like" in text for text in [str(caught.value), *map(str, problems)])


def test_the_sample_is_written_where_no_folder_is_named(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn_train.data import write_sample_dataset

    monkeypatch.setattr(
        "fcn_train.data.opening.write_sample_dataset",
        lambda root: write_sample_dataset(root, train=2, val=1, size=32),
    )
    train_set, val_set = open_splits(DataOptions(), pytest.fail)
    assert (len(train_set), len(val_set)) == (2, 1)
    assert train_set.image_path(0).is_relative_to(SAMPLE_ROOT)
    held, _ = open_splits(DataOptions(memory=True), pytest.fail)
    assert fingerprint(held) == fingerprint(train_set)


def test_files_removed_before_training_are_named_at_once(sample_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "copy"))
    for path in sorted((root / "JPEGImages").glob("val*"))[:4]:
        path.unlink()
    with pytest.raises(DataError, match=r"val\.txt: 4 of 10 images are missing: val_0"):
        open_splits(DataOptions(kind="sample", root=root), pytest.fail)


def test_palettes_are_compared_over_splits(tmp_path: Path, command: Command) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for stem, color in (("a", (255, 0, 0)), ("b", (0, 255, 0))):
        Image.new("RGB", (2, 1)).save(tmp_path / "images" / f"{stem}.png")
        label = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
        label.putpalette([0, 0, 0, *color])
        label.save(tmp_path / "labels" / f"{stem}.png")
        (tmp_path / f"{stem}.txt").write_text(f"{stem}\n")
    (tmp_path / "classes.txt").write_text("ground\nthing\n")
    options = DataOptions(kind="folder", root=tmp_path, train_split="a", val_split="b")
    with pytest.raises(DataError, match=r"b\.png: shows value 1 in the color"):
        open_splits(options, pytest.fail)
    by_value = replace(options, label_colors="ignore")
    assert open_splits(by_value, pytest.fail)[1][0].label.tolist() == [[0, 1]]
    flags = ("--kind", "folder", "--root", tmp_path, "--split", "a", "b")
    code, out, _ = command("data", "check", *flags)
    assert code == 1
    assert "b.png: shows value 1 in the color" in out
    assert command("data", "check", *flags, "--label-colors", "ignore")[0] == 0


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["thing"], "other has 1 class and mine, which is trained on, 2 classes"),
        (["ground", "thin"], "class 1 is 'thin' in other and 'thing' in mine, which is trained on"),
        (
            ["thing", "ground"],
            "class 0 is 'thing' in other and 'ground' in mine, which is trained on",
        ),
    ],
)
def test_other_classes_are_told(names: list[str], found: str, masks: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(masks, tmp_path / "other"))
    for root, classes in ((masks, ["ground", "thing"]), (other, names)):
        (root / "photos").rename(root / "images")
        (root / "masks").rename(root / "labels")
        (root / "classes.txt").write_text("\n".join(classes))
    options = DataOptions(kind="folder", root=masks, val_kind="folder", val_root=other)
    words = f"^{re.escape(str(other / 'val.txt'))}: {found}; give a --data.val-kind of the same"
    with pytest.raises(UsageError, match=words):
        open_splits(options, pytest.fail)


@pytest.mark.usefixtures("no_pictures")
def test_another_data_set_can_be_scored(
    voc_root: Path, masks: Path, command: Command, tmp_path: Path
) -> None:
    """As the paper does: trained on SBD, scored on VOC."""
    sbd = tmp_path / "benchmark_RELEASE" / "dataset"
    for name in ("img", "cls"):
        (sbd / name).mkdir(parents=True)
    values = np.arange(35, dtype=np.uint8).reshape(5, 7) % 21
    Image.new("RGB", (7, 5)).save(sbd / "img" / "x.jpg")
    savemat(sbd / "cls" / "x.mat", {"GTcls": {"Segmentation": values}})
    (sbd / "train.txt").write_text("x\n")
    (tmp_path / "seg11valid.txt").write_text("a\nc\n")
    options = DataOptions(
        kind="sbd",
        root=sbd.parent,
        val_kind="voc",
        val_root=voc_root.parent,
        val_split=str(tmp_path / "seg11valid.txt"),
    )
    train_set, val_set = open_splits(options, pytest.fail)
    assert (train_set.name, train_set.ids) == ("SBD", ["x"])
    assert (val_set.name, val_set.ids) == ("VOC2012", ["a", "c"])

    run = tmp_path / "run"
    data = ("--data.kind", "sbd", "--data.root", sbd.parent, "--data.val-kind", "voc")
    scored = ("--data.val-split", options.val_split)
    rooted = ("--data.val-root", voc_root)
    code, _, err = command("train", *data, *scored, *TINY, "--output", run)
    assert (code, err) == (
        2,
        "fcn: --data.val-kind voc needs --data.val-root, the folder it lies in; fcn data get "
        "voc2012 or voc2011 downloads it\n",
    )
    code, _, err = command("train", *data, *scored, *rooted, *TINY, "--output", run)
    assert code == 0, err
    code, out, err = command("evaluate", "--run", run)
    assert code == 0, err
    assert "2 images of VOC2012, seg11valid" in out

    other = replace(options, val_kind="folder", val_root=masks, val_split="")
    shutil.copy(masks / "names.txt", masks / "classes.txt")
    for old, new in (("photos", "images"), ("masks", "labels")):
        (masks / old).rename(masks / new)
    for label in (masks / "labels").iterdir():
        label.rename(label.with_name(label.name.replace("_mask", "")))
    with pytest.raises(UsageError, match=r"mine has 2 classes and SBD, .*, 21 classes"):
        open_splits(other, pytest.fail)


def test_the_guides_name_options_that_exist() -> None:
    docs = Path(__file__).parents[3] / "docs"
    named = {}
    for page in ("data", "training", "recipes", "evaluation", "speed", "processes"):
        text = (docs / f"{page}.md").read_text(encoding="utf-8")
        found = re.findall(r"--data\.(?:no-)?([a-z-]+)", text)
        named[page] = {name.replace("-", "_") for name in found}
    labels = {"label_map", "void_label", "first_class", "label_colors", "exif", "classes"}
    assert named["data"] >= labels
    assert set().union(*named.values()) <= {item.name for item in fields(DataOptions)}
