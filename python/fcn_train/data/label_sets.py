"""A set of classes, and the label files that use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcn_train.data.labels import LabelReader


@dataclass(frozen=True, eq=False)
class LabelSet:
    """One of the sets of classes in which a data set's images are labeled.

    Attributes:
        name: its name, such as "semantic"; "" if it is the only one.
        class_names: the classes, in the order of their indices.
        palette: (256, 3) uint8 colors of the classes for pictures.
        reader: decodes the label files.
        paths: one label file per image.
    """

    name: str
    class_names: tuple[str, ...]
    palette: np.ndarray
    reader: LabelReader
    paths: Sequence[Path]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
