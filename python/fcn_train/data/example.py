"""One example of a data set: an image with its label maps and, if it is read, its depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Example:
    """An image with one label map, or several; `image, label = example` unpacks the first two.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label: (H, W) uint8, class indices; `IGNORE_INDEX` marks void.
        more_labels: the label maps of further sets of classes, each as `label`.
        depth: (H, W) uint16, millimeters, 0 where it was not measured; None unless it is read.
        hha: (H, W, 3) uint8, see `fcn_train.data.hha`, 0 where depth is missing; None unless it
            is read.
    """

    image: np.ndarray
    label: np.ndarray
    more_labels: tuple[np.ndarray, ...] = ()
    depth: np.ndarray | None = None
    hha: np.ndarray | None = None

    @property
    def labels(self) -> tuple[np.ndarray, ...]:
        """The label map of every set."""
        return (self.label, *self.more_labels)

    def only(self, which: int) -> Example:
        """The same with the labels of one set alone."""
        return replace(self, label=self.labels[which], more_labels=())

    def changed(self, image: Change, label: Change, depth: Change) -> Example:
        """A function each for the image, every label map, and depth and HHA."""
        return Example(
            image(self.image),
            label(self.label),
            tuple(label(values) for values in self.more_labels),
            None if self.depth is None else depth(self.depth),
            None if self.hha is None else depth(self.hha),
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.image
        yield self.label

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same pixels."""
        if not isinstance(other, Example):
            return NotImplemented
        mine, theirs = (
            (example.image, *example.labels, example.depth, example.hha)
            for example in (self, other)
        )
        return len(mine) == len(theirs) and all(
            np.array_equal(a, b) if a is not None and b is not None else a is b
            for a, b in zip(mine, theirs, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]
