"""Finds everything that is wrong with a data set before a run does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fcn_train.data.contents import NameHint, too_few_classes
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.problems import Problem


def check_dataset(
    dataset: SegmentationDataset,
    progress: Callable[[int, int], None] | None = None,
    counts: np.ndarray | None = None,
) -> list[Problem]:
    """All problems of a data set: those of lists and folders, then those of each file, then whether
    there is anything to learn.

    Open the data set with `strict=False`, so that problems of lists and folders do not raise; of
    these, the first 1000 of each kind are named. Every file is decoded to its end; loading an
    example with a problem raises `DataError` with the same words.

    Args:
        dataset: the data set to check.
        progress: called with (pairs done, pairs in all) after each.
        counts: (K, 256) int64, to which the pixels of each class of each of the K sets are added,
            for pairs without a problem.
    """
    return [*dataset.problems, *problems_of_files(dataset, progress, counts)]


def problems_of_files(
    dataset: SegmentationDataset,
    progress: Callable[[int, int], None] | None = None,
    counts: np.ndarray | None = None,
) -> Iterator[Problem]:
    """`check_dataset` without the data set's own `problems`, one by one: there may be more than
    memory should hold."""
    sets = len(dataset.label_sets)
    counts = np.zeros((sets, 256), dtype=np.int64) if counts is None else counts
    hint = NameHint(dataset)
    for index in range(len(dataset)):
        example, found = dataset.examine(index)
        for problem in found:
            hint.see(index, problem)
            yield problem
        if example is not None:
            for row, label in zip(counts, example.labels, strict=True):
                row += np.bincount(label.ravel(), minlength=256)
        if progress is not None:
            progress(index + 1, len(dataset))
    if other_name := hint.problem():
        yield other_name
    for which in range(sets):
        few = too_few_classes(dataset.only(which), counts[which])
        if counts[which].any() and few:
            yield few
