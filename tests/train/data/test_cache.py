"""Decoded images that processes share: never another pixel than without."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train import machine
from fcn_train.data import (
    IMAGENET,
    DataError,
    SegmentationDataset,
    TrainLoader,
    augmentation,
    fingerprint,
    open_dataset,
    write_sample_dataset,
)
from fcn_train.data.cache import CachedDataset, SharedStore
from fcn_train.data.masked import MaskedDataset
from fcn_train.errors import UsageError
from fcn_train.option_rules import check
from fcn_train.options import DataOptions, TrainOptions
from fcn_train.splits import Splits

MUCH = 2**24


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sample_dataset(tmp_path / "sample", train=5, val=2, size=32)


def cached(dataset: SegmentationDataset, size: int = MUCH) -> tuple[CachedDataset, SharedStore]:
    store = SharedStore(len(dataset), size)
    return CachedDataset(dataset, store), store


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the examples that are decoded from now on."""
    found: list[int] = []
    examine = SegmentationDataset.examine

    def watched(self: SegmentationDataset, index: int) -> Any:
        found.append(index)
        return examine(self, index)

    monkeypatch.setattr(SegmentationDataset, "examine", watched)
    return found


@pytest.mark.parametrize(
    ("layout", "kind", "split", "more"),
    [
        ("voc", "voc", "train", {}),
        ("folder", "folder", "train", {"channels": "color-depth"}),
        ("folder", "folder", "train", {"channels": "color-hha"}),
        ("folder", "folder", "train", {"channels": "hha"}),
        ("sift-flow", "sift-flow", "trainval", {"label_folder": "SemanticLabels,GeoLabels"}),
    ],
)
def test_examples_are_those_of_the_files(
    layout: str, kind: Any, split: str, more: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of odd sizes, too, where depth begins at an odd byte."""
    root = write_sample_dataset(tmp_path / "data", layout=layout, train=3, val=1, size=35)
    dataset = open_dataset(kind, root, split, **more)
    data, store = cached(dataset)
    expected = [dataset[index] for index in range(len(dataset))]
    assert [data[index] for index in range(len(dataset))] == expected
    decoded = decodings(monkeypatch)
    for index, example in enumerate(expected):
        assert data[index] == example
        assert np.array_equal(data.label(index), example.label)
        assert data.only(0)[index] == example.only(0)
        for found, wanted in zip(data[index].labels, example.labels, strict=True):
            assert found.dtype == wanted.dtype
    assert decoded == [*range(len(dataset))]  # for the view of one set alone, which keeps nothing
    assert store.entries == len(data) == len(dataset)
    assert fingerprint(data) == fingerprint(dataset)
    assert data.image_size(0) == dataset.image_size(0)


def test_what_is_masked_stays_masked(root: Path) -> None:
    dataset = MaskedDataset(open_dataset("sample", root, "train"), "background")
    data, _ = cached(dataset)
    for _ in range(2):
        assert [data[index] for index in range(5)] == [dataset[index] for index in range(5)]


@pytest.mark.parametrize("size", [0, 1, 100, 32 * 24 * 4 + 150, 2 * (32 * 24 * 4 + 150)])
def test_memory_is_bounded(size: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no room for is decoded each time."""
    dataset = open_dataset("sample", root, "train")
    data, store = cached(dataset, size)
    expected = [dataset[index] for index in range(5)]
    decoded = decodings(monkeypatch)
    for _ in range(3):
        assert [data[index] for index in range(5)] == expected
    assert store.entries == size // (32 * 24 * 4)
    assert len(decoded) == 15 - 2 * store.entries
    assert os.fstat(store._file).st_size <= max(size, 6 * 8)


def test_files_that_change_are_read_again(root: Path) -> None:
    dataset = open_dataset("sample", root, "train")
    data, _ = cached(dataset)
    before = data[1]
    path = dataset.image_path(1)
    Image.new("RGB", (32, 24), (1, 2, 3)).save(path.with_suffix(".png"))
    os.replace(path.with_suffix(".png"), path)
    changed = data[1]
    assert changed != before
    assert changed == dataset[1]
    assert data[1] == changed
    aside = path.with_suffix(".aside")
    path.rename(aside)
    with pytest.raises(DataError, match="image is missing"):
        data[1]
    aside.rename(path)
    assert data[1] == changed
    label = dataset.label_path(2)
    whole, _ = label.read_bytes(), data[2]
    label.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="label cannot be decoded"):
        data[2]


def test_problems_are_not_kept(root: Path) -> None:
    dataset = open_dataset("sample", root, "train")
    path = dataset.image_path(0)
    whole = path.read_bytes()
    path.write_bytes(b"")
    data, store = cached(dataset)
    for _ in range(2):
        with pytest.raises(DataError):
            data[0]
    assert store.entries == 0
    path.write_bytes(whole)
    assert data[0] == dataset[0]


def test_memory_that_runs_out_ends_no_training(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("sample", root, "train")
    data, store = cached(dataset)
    expected = [dataset[index] for index in range(5)]
    first = data[0]
    monkeypatch.setattr(
        os, "pwrite", lambda *a: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space"))
    )
    assert [data[index] for index in range(5)] == expected
    monkeypatch.undo()
    assert [data[index] for index in range(5)] == expected
    assert store.entries == 1
    assert data[0] == first


def test_short_writes_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("sample", root, "train")
    data, store = cached(dataset)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:100], place))
    assert data[3] == dataset[3]
    assert store.entries == 1
    assert data[3] == dataset[3]


def in_child(action: Callable[[], object]) -> int:
    """The exit status of a forked process that does this."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def test_process_killed_in_its_middle_blocks_nobody(root: Path) -> None:
    """Neither while it holds the lock nor between finding a place and writing there."""
    dataset = open_dataset("sample", root, "train")
    data, store = cached(dataset)

    def kill(*unused: object) -> None:
        os.kill(os.getpid(), 9)

    def killed_in_write() -> None:
        os.pwrite = kill  # type: ignore[assignment]
        data[0]

    def killed_in_lock() -> None:
        class Fatal:
            def __getitem__(self, index: int) -> int:
                kill()
                return 0

        store._words = Fatal()  # type: ignore[assignment]
        data[0]

    assert in_child(killed_in_write) == in_child(killed_in_lock) == 9
    assert store.entries == 0
    for _ in range(2):
        assert data[0] == dataset[0]
    assert store.entries == 1


def test_spawned_processes_share_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are given it, by the pickles of multiprocessing."""
    dataset = open_dataset("sample", root, "train")
    data, _ = cached(dataset)
    first = data[0]
    other = pickle.loads(ForkingPickler.dumps(data))
    second = other[1]
    decoded = decodings(monkeypatch)
    assert (other[0], data[1]) == (first, second)
    assert decoded == []


def test_loader_processes_share_it_over_epochs(root: Path) -> None:
    dataset = open_dataset("sample", root, "train")
    data, store = cached(dataset)
    batches = []
    for one, workers in ((dataset, 0), (data, 2)):
        loader = TrainLoader(
            one, augmentation(crop=24, scale=(0.5, 1.5)), IMAGENET, batch_size=2, workers=workers
        )
        batches.append([*loader.batches(0, 8)])  # three epochs and a bit
    assert batches[0] == batches[1]
    assert store.entries == 5  # what they decoded is here


@pytest.mark.parametrize("size", ["", "2", "3.5MB", "1GiB", "0"])
def test_sizes_that_can_be_given(size: str) -> None:
    check(TrainOptions(data=DataOptions(cache=size)))


@pytest.mark.parametrize("size", ["-1", "much", "2 GiB 3", "1e9", "2PiB", "nan", "inf", " "])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(UsageError, match=r"--data.cache must be an amount of memory such as 2GiB"):
        check(TrainOptions(data=DataOptions(cache=size)))


def test_one_way_of_keeping_is_enough() -> None:
    with pytest.raises(UsageError, match=r"--data.cache must be left out with --data.memory, got"):
        check(TrainOptions(data=DataOptions(cache="1GiB", memory=True)))


def test_what_the_machine_cannot_give_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = Splits(DataOptions(root=root), pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "available_memory", lambda: 1000)
        with pytest.raises(UsageError, match=r"--data.cache needs about .* give a smaller one"):
            splits.share_cache(MUCH)
        assert "about 5%" in splits.share_cache(1000)
    with monkeypatch.context() as patch:
        patch.delattr(os, "memfd_create")
        with pytest.raises(
            UsageError, match=r"--data.cache: shared memory without a name is Linux"
        ):
            splits.share_cache(MUCH)
    assert splits.share_cache(MUCH).startswith("--data.cache: 0.02 GiB, room for all of")
