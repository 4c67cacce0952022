"""Counts over a whole data set, which `fcn data stats` prints and class weights use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.example import Example


@dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """Counts over all pairs of a data set with C classes. Equal if all of them are.

    class_names: C names.
    pixels: (C,) int64, pixels of each class.
    images: (C,) int64, images in which each class occurs.
    shared_pixels: (C,) int64, pixels that are not void in the images where each class occurs.
    void_pixels: pixels of no class.
    sizes: number of images by (height, width), the most frequent first.
    mean, std: (3,) float64, of R, G, B over all pixels, in units of 0..255.
    depth: of depth and HHA, where the data set reads them: the share of pixels without depth,
        "missing"; the mean logarithm of the others' millimeters, "log_mean"; the three means of
        HHA where it is not missing, "hha_mean".
    """

    class_names: tuple[str, ...]
    pixels: np.ndarray
    images: np.ndarray
    shared_pixels: np.ndarray
    void_pixels: int
    sizes: dict[tuple[int, int], int]
    mean: np.ndarray
    std: np.ndarray
    depth: dict[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DatasetStatistics):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, item.name), getattr(other, item.name))
            if isinstance(getattr(self, item.name), np.ndarray)
            else getattr(self, item.name) == getattr(other, item.name)
            for item in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def num_images(self) -> int:
        return sum(self.sizes.values())

    @property
    def void_share(self) -> float:
        """Void pixels over all pixels."""
        total = self.void_pixels + int(self.pixels.sum())
        return self.void_pixels / total if total else 0.0

    def median_frequency_weights(self) -> np.ndarray:
        """Class weights by median frequency balancing, (C,) float64.

        The frequency of a class is its share of the pixels, void aside, in the images where it
        occurs; its weight is the median of all frequencies over its own (Eigen and Fergus,
        ICCV 2015, section 6.3.2). Classes that never occur have weight 1 and no part in the
        median.
        """
        weights = np.ones(len(self.class_names))
        present = self.pixels > 0
        if present.any():
            frequency = self.pixels[present] / self.shared_pixels[present]
            weights[present] = np.median(frequency) / frequency
        return weights

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "num_images": self.num_images,
            "void_share": self.void_share,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            **({"depth": self.depth} if self.depth else {}),
            "sizes": [
                {"height": height, "width": width, "images": images}
                for (height, width), images in self.sizes.items()
            ],
            "classes": [
                dict(zip(("name", "pixels", "images", "weight"), row, strict=True))
                for row in zip(
                    self.class_names,
                    self.pixels.tolist(),
                    self.images.tolist(),
                    self.median_frequency_weights().tolist(),
                    strict=True,
                )
            ],
        }


def dataset_statistics(
    dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None
) -> DatasetStatistics:
    """Count over every pair of a data set.

    Args:
        dataset: the data set to count.
        progress: called with (pairs done, pairs in all) after each.

    Raises:
        DataError: if a pair cannot be used.
    """
    counts = np.zeros(256, dtype=np.int64)
    images = np.zeros(dataset.num_classes, dtype=np.int64)
    shared = np.zeros(dataset.num_classes, dtype=np.int64)
    sizes: Counter[tuple[int, int]] = Counter()
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    value = np.arange(256)
    depth = _DepthSums()
    for index in range(len(dataset)):
        example = dataset[index]
        count = np.bincount(example.label.ravel(), minlength=256)
        counts += count
        present = count[: dataset.num_classes] > 0
        images += present
        shared += present * (example.label.size - count[IGNORE_INDEX])
        sizes[example.label.shape[0], example.label.shape[1]] += 1
        for channel in range(3):
            levels = np.bincount(example.image[:, :, channel].ravel(), minlength=256)
            total[channel] += levels @ value
            squares[channel] += levels @ value**2
        depth.add(example)
        if progress is not None:
            progress(index + 1, len(dataset))
    pixels = max(1, int(counts.sum()))
    mean = total / pixels
    return DatasetStatistics(
        class_names=dataset.class_names,
        pixels=counts[: dataset.num_classes],
        images=images,
        shared_pixels=shared,
        void_pixels=int(counts[IGNORE_INDEX]),
        sizes=dict(sizes.most_common()),
        mean=mean,
        std=np.sqrt(np.maximum(squares / pixels - mean**2, 0)),
        depth=depth.means(),
    )


class _DepthSums:
    """Sums over the depth and the HHA of the examples that have them."""

    def __init__(self) -> None:
        self._pixels = self._measured = self._hha_measured = 0
        self._logarithm, self._hha = 0.0, np.zeros(3, dtype=np.int64)
        self._has_depth = self._has_hha = False

    def add(self, example: Example) -> None:
        if example.depth is not None:
            known = example.depth[example.depth > 0].astype(np.float64)
            self._has_depth = True
            self._pixels += example.depth.size
            self._measured += known.size
            self._logarithm += float(np.log(known).sum())
        if example.hha is not None:
            there = example.hha[example.hha[:, :, 0] > 0]
            self._has_hha = True
            self._hha_measured += len(there)
            self._hha += there.sum(axis=0, dtype=np.int64)

    def means(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._has_depth:
            found["missing"] = 1 - self._measured / max(1, self._pixels)
            found["log_mean"] = self._logarithm / max(1, self._measured)
        if self._has_hha:
            found["hha_mean"] = (self._hha / max(1, self._hha_measured)).tolist()
        return found
