"""Chooses the examples of each batch, and loads them in order.

A checkpoint needs no state of the loader: the examples of a batch follow from the seed and the
number of the batch alone, and every example is augmented with its own generator. So a run that is
continued from batch n sees what the uninterrupted run would have seen, with any number of loader
processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fcn_train.data.batch import Batch, collate
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.device_input import input_to_bytes
from fcn_train.data.normalization import Normalization, to_tensors
from fcn_train.data.problems import DataError, Problem
from fcn_train.data.transforms import Compose, Transform

_ORDER, _AUGMENT = 0, 1  # separate the generators of the two purposes


def epoch_order(seed: int, epoch: int, size: int, *, replacement: bool = False) -> np.ndarray:
    """The examples of one epoch, (size,) int64.

    A permutation, or with `replacement` independent uniform draws, as the reference repository
    samples its training images.
    """
    rng = np.random.default_rng((seed, _ORDER, epoch))
    return rng.integers(size, size=size) if replacement else rng.permutation(size)


def sample_generator(seed: int, epoch: int, place: int) -> np.random.Generator:
    """The generator that augments the example at a place in an epoch's order."""
    return np.random.default_rng((seed, _AUGMENT, epoch, place))


class TrainLoader:
    """Augmented training batches, addressed by number.

    Epochs follow one another without a gap: batch b holds the places b * batch_size up to
    (b + 1) * batch_size of the endless sequence of epochs, so every batch is full and may span the
    end of an epoch.

    Args:
        dataset: pairs to draw from.
        transform: augmentation, a pure function of example and generator.
        normalization: see `Normalization`; None gives bytes, for `DeviceNormalization`.
        batch_size: examples in a batch, padded with void where their sizes differ.
        seed: >= 0; decides order and augmentation.
        replacement: draw with replacement, see `epoch_order`.
        workers: loader processes; 0 loads in the calling process.
        pin_memory: page-locked batches, for copies to a GPU.
        parts: what to load of each batch, in turn; a batch of which that is nothing is passed over.

    Raises:
        ValueError: if `batch_size`, `seed` or `workers` is out of range, or `dataset` is empty.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        normalization: Normalization | None,
        *,
        batch_size: int,
        seed: int = 0,
        replacement: bool = False,
        workers: int = 0,
        pin_memory: bool = False,
        parts: Sequence[slice] = (slice(None),),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        if not len(dataset):
            raise ValueError("dataset must hold at least one example, got 0")
        self.batch_size = batch_size
        self._keys = _BatchKeys(len(dataset), batch_size, seed, replacement, parts)
        self._loader = _data_loader(
            _Examples(dataset, transform, normalization, seed),
            workers,
            batch_sampler=self._keys,
            collate_fn=_collate,
            pin_memory=pin_memory,
        )

    @property
    def batches_per_epoch(self) -> float:
        """The number of batches in an epoch, which may be a fraction."""
        return self._keys.size / self.batch_size

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches first, first + 1, ..., last - 1. One iteration at a time.

        Raises:
            DataError: when an example of the next batch cannot be used.
        """
        self._keys.first, self._keys.last = first, last
        for batch in self._loader:
            yield _raised(batch)


class EvaluationLoader:
    """Every example once, in order, at native size, without augmentation.

    Batches hold neighbors of equal size, so nothing is padded and no result depends on
    `batch_size`.

    Args:
        dataset: pairs to go through.
        normalization: as for `TrainLoader`.
        batch_size: the most examples in a batch.
        workers, pin_memory: as for `TrainLoader`.
        share: (i, n) gives only the batches i, i + n, ... of those that there are without it.

    Raises:
        ValueError: if `batch_size` or `workers` is out of range.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        normalization: Normalization | None,
        *,
        batch_size: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.batch_size = batch_size
        self.num_examples = len(dataset)
        which, parts = share
        # Examples are loaded one by one and joined by their sizes. A share of the batches is known
        # only after all sizes have been read.
        self._batches = _same_sized(dataset, batch_size)[which::parts] if parts > 1 else []
        order = [index for batch in self._batches for index in batch]
        self._loader = _data_loader(
            _Examples(dataset, Compose(), normalization, seed=0),
            workers,
            sampler=[(index, 0, index) for index in (order if parts > 1 else range(len(dataset)))],
            batch_size=None,
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[Batch]:
        """Batches in the order of the data set.

        Raises:
            DataError: when the next example cannot be used.
        """
        waiting: list[_Loaded] = []
        ends = set(accumulate(map(len, self._batches)))
        for number, loaded in enumerate(self._loader):
            _raised(loaded)
            same_size = not waiting or waiting[0][0][1].shape == loaded[0][1].shape
            full = len(waiting) == self.batch_size or number in ends
            if waiting and (full or not same_size):
                yield _raised(_collate(waiting))
                waiting = []
            waiting.append(loaded)
        if waiting:
            yield _raised(_collate(waiting))


def _same_sized(dataset: SegmentationDataset, most: int) -> list[list[int]]:
    """The indices of a data set in order, divided where the size changes or after ``most``."""
    batches: list[list[int]] = []
    last: object = None
    for index in range(len(dataset)):
        size: object = index
        if most > 1:
            with contextlib.suppress(DataError):  # loading the example will raise it
                size = dataset.image_size(index)
        if batches and size == last and len(batches[-1]) < most:
            batches[-1].append(index)
        else:
            batches.append([index])
        last = size
    return batches


_Key = tuple[int, int, int]  # index of the example, epoch, place in the epoch
_Loaded = tuple[tuple[Any, ...], str]  # image (C, H, W) and labels (H, W), id


class _BatchKeys:
    """The keys of the batches first..last-1, set before each iteration over the loader."""

    def __init__(
        self, size: int, batch_size: int, seed: int, replacement: bool, parts: Sequence[slice]
    ) -> None:
        self.size = size
        self._parts = parts
        self.first = self.last = 0
        self._batch_size = batch_size
        self._seed = seed
        self._replacement = replacement

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __iter__(self) -> Iterator[list[_Key]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for batch in range(self.first, self.last):
            keys: list[_Key] = []
            for position in range(batch * self._batch_size, (batch + 1) * self._batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = epoch_order(self._seed, epoch, self.size, replacement=self._replacement)
                place = position % self.size
                keys.append((int(order[place]), epoch, place))
            if part := keys[self._parts[batch % len(self._parts)]]:
                yield part


class _Examples(Dataset[Any]):
    """Turns a key into tensors, or into the problem found: an exception would cross a process
    boundary in torch's loader with a traceback in place of its message."""

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        normalization: Normalization | None,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._transform = transform
        self._normalization = normalization
        self._seed = seed

    def __getitem__(self, key: _Key) -> _Loaded | Problem:
        index, epoch, place = key
        try:
            example = self._dataset[index]
        except DataError as error:
            return error.problem
        example = self._transform(example, sample_generator(self._seed, epoch, place))
        channels = self._dataset.channels
        if self._normalization is None:
            labels = (torch.from_numpy(label.copy()) for label in example.labels)
            tensors = (input_to_bytes(example, channels), *labels)
        else:
            tensors = to_tensors(example, self._normalization, channels)
        return tensors, self._dataset.ids[index]


def _collate(loaded: Sequence[_Loaded | Problem]) -> Batch | Problem:
    tensors, ids = [], []
    for item in loaded:
        if isinstance(item, Problem):
            return item
        tensors.append(item[0])
        ids.append(item[1])
    return collate(tensors, ids)


def _raised(value: Any) -> Any:
    if isinstance(value, Problem):
        raise DataError(value)
    return value


def _data_loader(examples: _Examples, workers: int, **arguments: Any) -> DataLoader[Any]:
    if workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")
    return _Loader(examples, num_workers=workers, persistent_workers=workers > 0, **arguments)


class _Loader(DataLoader[Any]):
    def check_worker_number_rationality(self) -> None:
        """Say nothing: torch would warn, at length and for each loader, of more processes than
        CPUs; the program does so once."""
