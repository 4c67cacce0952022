"""A data set that is decoded once and kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.example import Example
from fcn_train.data.problems import Problem


class MemoryDataset(SegmentationDataset):
    """A data set decoded once and kept as the arrays of its examples: 4 bytes per pixel, and more
    with depth or several sets of classes.

    Args:
        dataset: the data set to hold.
        progress: called with (examples done, examples in all) after each.

    Raises:
        DataError: if an example cannot be used.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        vars(self).update(dataset.__getstate__())
        self._examples: list[Example] = []
        for index in range(len(dataset)):
            self._examples.append(dataset[index])
            if progress is not None:
                progress(index + 1, len(dataset))

    def only(self, which: int) -> SegmentationDataset:
        view = super().only(which)
        view._examples = [example.only(which) for example in self._examples]  # type: ignore[attr-defined]
        return view

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        return self._examples[index], []

    def label(self, index: int) -> np.ndarray:
        return self._examples[index].label
