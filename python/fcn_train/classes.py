"""``classes.json``: what the outputs of a network mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcn_train.data import IGNORE_INDEX, SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.files import write_text


@dataclass(frozen=True, eq=False)
class Classes:
    """What the outputs of a network mean: names of the C classes, palette (256, 3) uint8."""

    names: tuple[str, ...]
    palette: np.ndarray

    @staticmethod
    def of(dataset: SegmentationDataset) -> Classes:
        return Classes(dataset.class_names, dataset.palette)

    def save(self, path: Path) -> None:
        colors = self.palette.tolist()
        values = {
            "ignore_index": IGNORE_INDEX,
            "ignore_colour": colors[IGNORE_INDEX],
            "classes": [{"name": n, "colour": colors[i]} for i, n in enumerate(self.names)],
        }
        write_text(path, json.dumps(values, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Classes:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            palette = np.zeros((256, 3), dtype=np.uint8)
            for index, entry in enumerate(values["classes"]):
                palette[index] = entry["colour"]
            palette[IGNORE_INDEX] = values["ignore_colour"]
            return Classes(tuple(str(entry["name"]) for entry in values["classes"]), palette)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); give a run folder") from None
