"""A run knows what it was trained on, and that it changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train import machine
from fcn_train.data import FolderSegmentation, open_dataset, write_sample_dataset
from fcn_train.errors import UsageError
from fcn_train.options import DataOptions
from fcn_train.splits import Splits, decoded_bytes

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Six images of three classes in the layout of one's own data, four of them to train on."""
    root = tmp_path / "mine"
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
        Image.fromarray(labels).save(root / "labels" / f"{i}.png")
    (root / "classes.txt").write_text("sky\nland\nsea\n")
    (root / "train.txt").write_text("0\n1\n2\n3\n")
    (root / "val.txt").write_text("4\n5\n")
    return root


def write(path: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_text(text)


CHANGES = {
    "a class renamed": (
        write("classes.txt", "sky\nland\nlake\n"),
        r"the classes have changed since the run was started \(class 2 was 'sea', now 'lake'\)",
    ),
    "classes renumbered": (
        write("classes.txt", "land\nsky\nsea\n"),
        "class 0 was 'sky', now 'land'",
    ),
    "a class added": (write("classes.txt", "sky\nland\nsea\nice\n"), "3 classes then, 4 now"),
    "an image fewer": (
        write("train.txt", "0\n1\n2\n"),
        r"the train split 'train' has changed since the run was started \(4 images then, 3 now\)",
    ),
    "another order": (
        write("train.txt", "1\n0\n2\n3\n"),
        "train split .*as many images, but",
    ),
    "another image": (
        write("val.txt", "4\n3\n"),
        "the val split 'val' .*as many images",
    ),
    "an image gone": (lambda root: (root / "images" / "1.png").unlink(), "images/1.* is missing"),
    "a label gone": (lambda root: (root / "labels" / "5.png").unlink(), "labels/5.* is missing"),
    "all gone": (shutil.rmtree, "missing"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_data_changed_between_kill_and_resume(
    change: str, mine: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    flags = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "16")
    with monkeypatch.context() as patch:
        patch.setattr("fcn_train.finish.write_report", lambda *a, **k: 1 / 0)  # killed at its end
        code, _, _ = command(
            *("train", "--data.kind", "folder", "--data.root", mine, "--output", run, *flags),
            *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1"),
        )
    assert code == 1
    before = (run / "classes.json").read_bytes()
    action, message = CHANGES[change]
    action(mine)
    code, _, err = command("train", "--resume", run)
    assert code == 2, err
    assert err.startswith("fcn: ")
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert (run / "classes.json").read_bytes() == before
    assert not (run / "metrics.json").exists()


def splits_of(root: Path) -> Splits:
    return Splits(DataOptions(kind="folder", root=root), pytest.fail)


def test_moved_data_is_the_same(mine: Path, tmp_path: Path) -> None:
    splits_of(mine).record(tmp_path / "splits.json")
    moved = Path(shutil.move(mine, tmp_path / "moved"))
    splits_of(moved).check(tmp_path / "splits.json")


def test_runs_without_a_record_go_on(mine: Path, tmp_path: Path) -> None:
    splits_of(mine).check(tmp_path / "splits.json")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("", "Expecting value"), ("{", "Expecting property name")),
        *((text, "it holds no record of splits") for text in ("[]", "{}", '{"train": 3}')),
        ('{"train": {}, "val": {}}', "it holds no record of splits"),
    ],
)
def test_record_that_cannot_be_read(text: str, why: str, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(text)
    message = rf"splits.json: cannot be read \({why}.*\); remove it to continue"
    with pytest.raises(UsageError, match=message):
        splits_of(mine).check(tmp_path / "splits.json")


def test_record_names_no_folder(mine: Path, tmp_path: Path) -> None:
    splits_of(mine).record(tmp_path / "splits.json")
    text = (tmp_path / "splits.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["train"]["images"] == 4


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "JPEGImages/../JPEGImages"])
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_results_do_not_lie_among_images_and_labels(
    name: str,
    folder: str,
    sample_root: Path,
    finished_run: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "data"))
    output = root / folder
    before = sorted(output.iterdir())
    starts: dict[str, tuple[str | Path, ...]] = {
        "train": ("train", "--data.root"),
        "evaluate": ("evaluate", finished_run, "--data-root"),
    }
    code, _, err = command(*starts[name], root, "--output", output)
    assert code == 2
    assert err == f"fcn: {output}: holds images or labels; give another --output\n"
    assert sorted(output.iterdir()) == before


def test_images_that_memory_cannot_hold_are_not_decoded(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FolderSegmentation(mine, "train")
    assert decoded_bytes(train) == 4 * 20 * 30 * 4
    splits = splits_of(mine)
    monkeypatch.setattr(machine, "available_memory", lambda: 6 * 20 * 30 * 4 - 1)
    with pytest.raises(UsageError, match=r"--data.memory needs about .* are free; leave it out"):
        splits.keep_in_memory()
    monkeypatch.setattr(machine, "available_memory", lambda: 6 * 20 * 30 * 4)
    splits.keep_in_memory()
    assert len(splits.train) == 4


def test_depth_takes_memory_too(tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "nyud", layout="nyud", train=2, val=1, size=32)
    for channels, per_pixel in (("color", 4), ("color-depth", 6), ("hha", 7), ("color-hha", 7)):
        dataset = open_dataset("nyud", root, "trainval", channels=channels)
        assert decoded_bytes(dataset) == 2 * 32 * 24 * per_pixel
    root = write_sample_dataset(tmp_path / "twice", layout="sift-flow", train=2, val=1, size=32)
    both = open_dataset("sift-flow", root, "test", label_folder="SemanticLabels,GeoLabels")
    assert decoded_bytes(both) == 32 * 24 * 5


def test_estimate_looks_at_images_of_the_whole_split(sample_root: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    pixels = sum(dataset[i].label.size for i in range(len(dataset)))
    assert decoded_bytes(dataset) == 4 * pixels
