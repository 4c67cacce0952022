"""Images with the objects, or all that is around them, hidden."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.example import Example
from fcn_train.data.normalization import MEAN_COLOR
from fcn_train.data.problems import Problem

Mask = Literal["none", "foreground", "background", "shape"]

_BACKGROUND = 0  # the class of that name in PASCAL VOC and in the sample
_SHAPE = (255, 255, 255)


class MaskedDataset(SegmentationDataset):
    """The same data set with parts of its images in one color.

    Args:
        dataset: its first class is the background.
        mask: what is not seen: "foreground", all pixels of other classes, or "background". "shape"
            hides both, and shows where the foreground is: white on the mean color. Void, which
            outlines objects, is hidden with either.
    """

    def __init__(self, dataset: SegmentationDataset, mask: Mask) -> None:
        vars(self).update(dataset.__getstate__())
        self._unmasked = dataset
        self._mask = mask

    def only(self, which: int) -> SegmentationDataset:
        return MaskedDataset(self._unmasked.only(which), self._mask)

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        example, problems = self._unmasked.examine(index)
        return (None if example is None else masked(example, self._mask)), problems

    def label(self, index: int) -> np.ndarray:
        return self._unmasked.label(index)


def masked(example: Example, mask: Mask) -> Example:
    """``example`` with parts of its image in one color, and without depth there."""
    if mask == "none":
        return example
    background = example.label == _BACKGROUND
    foreground = (example.label != _BACKGROUND) & (example.label < 255)
    seen = {"foreground": background, "background": foreground}.get(mask, np.zeros_like(background))
    image = np.where(seen[..., None], example.image, np.array(MEAN_COLOR, np.uint8))
    if mask == "shape":
        image[foreground] = _SHAPE

    def depth_seen(depth: np.ndarray) -> np.ndarray:
        where = seen.reshape(seen.shape + (1,) * (depth.ndim - 2))
        return np.where(where, depth, np.zeros((), depth.dtype))

    return example.changed(lambda _: image, lambda label: label, depth_seen)
