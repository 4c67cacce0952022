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
from fcn_train.shown import shown
from fcn_train.text_files import NOT_UTF8


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
    except ValueError as error:
        why = NOT_UTF8 if isinstance(error, UnicodeError) else error
        raise UsageError(
            f"{path}: does not hold the classes of a run ({why}); give a run folder"
        ) from None


def classes_to_json(sets: Sequence[Classes]) -> dict[str, Any]:
    """The content of ``classes.json``."""
    values: dict[str, Any] = {"ignore_index": IGNORE_INDEX}
    if len(sets) == 1:
        return values | _to_json(sets[0])
    values["label_sets"] = [{"name": one.label_set, **_to_json(one)} for one in sets]
    return values


def classes_from_json(values: Any) -> tuple[Classes, ...]:
    """The sets of labels of ``classes_to_json``. Raises ValueError for anything else."""
    if not isinstance(values, dict):
        raise ValueError(f"it must be an object, got {_excerpt(values)}")
    sets = values.get("label_sets", [values])
    if not isinstance(sets, list) or not sets:
        raise ValueError(f"label_sets must be a list, got {_excerpt(sets)}")
    return tuple(map(_from_json, sets))


def _to_json(classes: Classes) -> dict[str, Any]:
    colors = classes.palette.tolist()
    return {
        "ignore_colour": colors[IGNORE_INDEX],
        "classes": [{"name": n, "colour": colors[i]} for i, n in enumerate(classes.names)],
    }


def _from_json(values: Any) -> Classes:
    entries = values.get("classes") if isinstance(values, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= IGNORE_INDEX:
        raise ValueError(f"classes must be a list of 1..{IGNORE_INDEX}, got {_excerpt(entries)}")
    palette = np.zeros((256, 3), dtype=np.uint8)
    names: list[str] = []
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in names:
            raise ValueError(f"class {index} must have a name of its own, got {_excerpt(entry)}")
        names.append(name)
        palette[index] = _color(entry, "colour", f"of class {index}")
    palette[IGNORE_INDEX] = _color(values, "ignore_colour", "of void")
    return Classes(tuple(names), palette, str(values.get("name", "")))


def _color(values: dict[str, Any], key: str, whose: str) -> list[int]:
    color = values.get(key)
    parts = color if isinstance(color, list) else []
    if len(parts) == 3 and all(type(part) is int and 0 <= part <= 255 for part in parts):
        return parts
    raise ValueError(f"{key} {whose} must be three integers in 0..255, got {_excerpt(color)}")


def _excerpt(value: Any) -> str:
    return shown(repr(value), 60)
