"""``classes.json``: what the outputs of a network mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcn_train.data import IGNORE_INDEX, SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.json_text import parse_json

NO_CLASSES = (ValueError, KeyError, TypeError, IndexError, AttributeError)
"""The errors of reading anything else than classes."""


@dataclass(frozen=True, eq=False)
class Classes:
    """What the outputs of a head mean: names of its C classes, palette (256, 3) uint8, and the name
    of their set of labels, "" if it is the only one."""

    names: tuple[str, ...]
    palette: np.ndarray
    label_set: str = ""


def classes_of(dataset: SegmentationDataset) -> tuple[Classes, ...]:
    """The classes of each set of labels."""
    return tuple(
        Classes(labels.class_names, labels.palette, labels.name) for labels in dataset.label_sets
    )


def save_classes(path: Path, sets: Sequence[Classes]) -> None:
    """Write the classes of one set of labels, or of several with their names."""
    write_text(path, json.dumps(classes_to_json(sets), indent=1) + "\n")


def load_classes(path: Path) -> tuple[Classes, ...]:
    """Read what ``save_classes`` wrote. Raises UsageError if it cannot be read."""
    try:
        return classes_from_json(parse_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a run folder") from None
    except NO_CLASSES as error:
        raise UsageError(
            f"{path}: does not hold the classes of a run ({type(error).__name__}: {error}); "
            "give a run folder"
        ) from None


def classes_to_json(sets: Sequence[Classes]) -> dict[str, Any]:
    """The content of ``classes.json``."""
    values: dict[str, Any] = {"ignore_index": IGNORE_INDEX}
    if len(sets) == 1:
        return values | _to_json(sets[0])
    values["label_sets"] = [{"name": one.label_set, **_to_json(one)} for one in sets]
    return values


def classes_from_json(values: Any) -> tuple[Classes, ...]:
    """The sets of labels of ``classes_to_json``. Raises one of ``NO_CLASSES`` for anything else."""
    return tuple(_from_json(one) for one in values.get("label_sets", [values]))


def _to_json(classes: Classes) -> dict[str, Any]:
    colors = classes.palette.tolist()
    return {
        "ignore_colour": colors[IGNORE_INDEX],
        "classes": [{"name": n, "colour": colors[i]} for i, n in enumerate(classes.names)],
    }


def _from_json(values: dict[str, Any]) -> Classes:
    palette = np.zeros((256, 3), dtype=np.uint8)
    for index, entry in enumerate(values["classes"]):
        palette[index] = entry["colour"]
    palette[IGNORE_INDEX] = values["ignore_colour"]
    names = tuple(str(entry["name"]) for entry in values["classes"])
    return Classes(names, palette, str(values.get("name", "")))
