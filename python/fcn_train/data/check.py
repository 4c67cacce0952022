"""Finding everything wrong with a data set before a run does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcn_train.data.contents import label_suffix_hint, too_few_classes
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.problems import Problem


def check_dataset(
    dataset: SegmentationDataset,
    progress: Callable[[int, int], None] | None = None,
    counts: np.ndarray | None = None,
) -> list[Problem]:
    """All problems of a data set: lists and folders first, then file by file, then whether there
    is anything to learn.

    Open the data set with `strict=False`, so that problems of lists and folders do not end it
    there. Every file is decoded to its end; loading an example with a problem raises `DataError`
    with the same words.

    Args:
        dataset: what to go through.
        progress: called with (pairs done, pairs in all) after each.
        counts: (K, 256) int64, takes the number of pixels of each class of each of the K sets, in
            pairs without a problem.
    """
    sets = len(dataset.label_sets)
    counts = np.zeros((sets, 256), dtype=np.int64) if counts is None else counts
    problems: list[Problem] = []
    for index in range(len(dataset)):
        example, found = dataset.examine(index)
        problems += found
        if example is not None:
            for row, label in zip(counts, example.labels, strict=True):
                row += np.bincount(label.ravel(), minlength=256)
        if progress is not None:
            progress(index + 1, len(dataset))
    problems = [*dataset.problems, *problems]
    if hint := label_suffix_hint(dataset, problems):
        problems.append(hint)
    for which in range(sets):
        few = too_few_classes(dataset.only(which), counts[which])
        if counts[which].any() and few:
            problems.append(few)
    return problems
