"""Finding everything wrong with a data set before a run does."""

from __future__ import annotations

from collections.abc import Callable

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.problems import Problem


def check_dataset(
    dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """All problems of a data set, lists and folders first, then file by file.

    Open the data set with `strict=False`, so that problems of lists and folders do not end it
    there. Every file is decoded to its end; loading an example with a problem raises `DataError`
    with the same words.

    Args:
        dataset: what to go through.
        progress: called with (pairs done, pairs in all) after each.
    """
    problems = list(dataset.problems)
    for index in range(len(dataset)):
        problems += dataset.examine(index)[1]
        if progress is not None:
            progress(index + 1, len(dataset))
    return problems
