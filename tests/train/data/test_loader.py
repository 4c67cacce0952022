from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fcn_train.data import (
    IMAGENET,
    Batch,
    DataError,
    EvaluationLoader,
    MemoryDataset,
    SegmentationDataset,
    TrainLoader,
    augmentation,
    open_dataset,
    to_tensors,
)
from fcn_train.data.loader import epoch_order, sample_generator

# Of Python 3.12 on where torch has started threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def dataset(sample_root: Path) -> SegmentationDataset:
    return MemoryDataset(open_dataset("sample", sample_root, "train"))


def train_loader(
    dataset: SegmentationDataset, *, batch_size: int = 5, seed: int = 7, workers: int = 0
) -> TrainLoader:
    transform = augmentation(mirror=True, scale=(0.7, 1.4), crop=40)
    return TrainLoader(
        dataset, transform, IMAGENET, batch_size=batch_size, seed=seed, workers=workers
    )


def test_batches_are_compared_by_what_they_hold(dataset: SegmentationDataset) -> None:
    first, second, third = (list(train_loader(dataset, seed=s).batches(0, 1)) for s in (1, 1, 2))
    assert first == second
    assert first != third
    assert first[0] != 3


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
        assert (one.ids, one.sizes) == (other.ids, other.sizes)


def test_order_is_a_permutation_that_changes_with_seed_and_epoch() -> None:
    orders = [epoch_order(seed, epoch, 50) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert np.array_equal(epoch_order(1, 1, 50), orders[3])


def test_order_with_replacement_repeats_and_leaves_out() -> None:
    order = epoch_order(0, 0, 1000, replacement=True)
    assert order.shape == (1000,)
    assert len(set(order.tolist())) == pytest.approx(1000 * (1 - np.exp(-1)), abs=50)


def test_generators_differ_by_seed_epoch_and_place() -> None:
    keys = [(seed, epoch, place) for seed in (0, 1) for epoch in (0, 1) for place in (0, 1)]
    assert len({sample_generator(*key).random() for key in keys}) == 8


def test_each_epoch_shows_every_example_once(dataset: SegmentationDataset) -> None:
    loader = train_loader(dataset)
    assert loader.batches_per_epoch == pytest.approx(12 / 5)
    batches = list(loader.batches(0, 12))
    assert all(batch.images.shape == (5, 3, 40, 40) for batch in batches)
    seen = [image_id for batch in batches for image_id in batch.ids]
    for epoch in range(5):
        assert sorted(seen[12 * epoch : 12 * (epoch + 1)]) == sorted(dataset.ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_workers_or_on_where_one_starts(
    dataset: SegmentationDataset, workers: int
) -> None:
    whole = list(train_loader(dataset).batches(0, 7))
    loader = train_loader(dataset, workers=workers)
    assert_equal(list(loader.batches(4, 7)), whole[4:])
    assert_equal(list(loader.batches(0, 4)), whole[:4])


def test_same_example_is_augmented_anew_each_epoch(dataset: SegmentationDataset) -> None:
    loader = TrainLoader(dataset, augmentation(crop=32), IMAGENET, batch_size=12)
    first, second = loader.batches(0, 2)
    place = second.ids.index(first.ids[0])
    assert not torch.equal(first.images[0], second.images[place])


def test_batches_larger_than_the_data_set_are_full(dataset: SegmentationDataset) -> None:
    (batch,) = train_loader(dataset, batch_size=30).batches(0, 1)
    assert len(batch.ids) == 30
    assert set(batch.ids) == set(dataset.ids)


def test_native_sizes_are_padded_together(dataset: SegmentationDataset) -> None:
    loader = TrainLoader(dataset, augmentation(crop=0), IMAGENET, batch_size=12)
    (batch,) = loader.batches(0, 1)
    assert set(batch.sizes) == {(48, 64), (64, 48)}
    assert batch.images.shape == (12, 3, 64, 64)


def test_replacement_is_an_option(dataset: SegmentationDataset) -> None:
    loader = TrainLoader(dataset, augmentation(crop=8), IMAGENET, batch_size=12, replacement=True)
    (batch,) = loader.batches(0, 1)
    assert len(set(batch.ids)) < 12


@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_shows_all_in_order_and_never_pads(
    dataset: SegmentationDataset, batch_size: int
) -> None:
    loader = EvaluationLoader(dataset, IMAGENET, batch_size=batch_size)
    assert loader.num_examples == 12
    for _ in range(2):
        batches = list(loader)
        assert [image_id for batch in batches for image_id in batch.ids] == dataset.ids
        assert max(len(batch.ids) for batch in batches) <= batch_size
        assert all(set(batch.sizes) == {batch.images.shape[2:]} for batch in batches)
    targets = [target for batch in batches for target in batch.targets]
    for index, target in enumerate(targets):
        assert torch.equal(target, to_tensors(dataset[index], IMAGENET)[1])


def test_evaluation_is_the_same_with_workers(dataset: SegmentationDataset) -> None:
    loaders = [EvaluationLoader(dataset, IMAGENET, batch_size=3, workers=n) for n in (0, 2)]
    assert_equal(list(loaders[0]), list(loaders[1]))


def test_more_loader_processes_than_cpus_are_no_matter_of_torchs(
    dataset: SegmentationDataset,
) -> None:
    """Its warning, an error in tests, has several lines; `fcn` has one of its own."""
    train_loader(dataset, workers=1000)
    EvaluationLoader(dataset, IMAGENET, workers=1000)


@pytest.mark.parametrize("workers", [0, 1])
def test_problem_in_a_file_reaches_the_loop_in_its_own_words(voc_root: Path, workers: int) -> None:
    (voc_root / "JPEGImages" / "b.jpg").write_bytes(b"no picture")
    broken = open_dataset("voc", voc_root, "train")
    training = TrainLoader(broken, augmentation(crop=4), IMAGENET, batch_size=2, workers=workers)
    words = f"^{re.escape(str(voc_root / 'JPEGImages' / 'b.jpg'))}: image cannot be decoded"
    with pytest.raises(DataError, match=words):
        list(training.batches(0, 1))
    with pytest.raises(DataError, match=words):
        list(EvaluationLoader(broken, IMAGENET, workers=workers))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"workers": -2}, "workers must be >= 0, got -2"),
    ],
)
def test_arguments_out_of_range_are_named(
    dataset: SegmentationDataset, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_loader(dataset, **options)
    if "seed" not in options:
        with pytest.raises(ValueError, match=message):
            EvaluationLoader(dataset, IMAGENET, **options)


def test_empty_data_set_has_no_batches(tmp_path: Path) -> None:
    empty = open_dataset("voc", tmp_path, "train", strict=False)
    with pytest.raises(ValueError, match="dataset must hold at least one example, got 0"):
        train_loader(empty)
