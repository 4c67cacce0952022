"""A short hash of a split, by which a run notices that its lists or classes were changed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fcn_train.data.dataset import SegmentationDataset

__all__ = ["fingerprint"]


def fingerprint(dataset: SegmentationDataset) -> str:
    """16 hexadecimal digits that follow from what a split names, not from its pixels.

    They change with the ids of the images or their order, with the names of the classes or their
    order, and with the way the values of labels become classes. They do not change with the
    folder that the data lies in, and a `MemoryDataset` has those of the data set it holds.

    Example:
        >>> fingerprint(open_dataset("voc", "VOCdevkit/VOC2012", "train"))  # doctest: +SKIP
        '5f0b9a1d3c7e2468'
    """
    described: list[Any] = [dataset.ids]
    for labels in dataset.label_sets:
        described += [labels.class_names, labels.reader.meaning]
    text = json.dumps(described, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
