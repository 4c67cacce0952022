"""The two splits of a run, and the check whether they have changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fcn_train import machine
from fcn_train.data import DataError, MemoryDataset, SegmentationDataset, fingerprint, opening
from fcn_train.data.cache import CachedDataset, SharedStore
from fcn_train.data.contents import refuse_folder_of_files
from fcn_train.data.overlap import overlap_warning
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.json_text import parse_json
from fcn_train.options import DataOptions
from fcn_train.sizes import size_text
from fcn_train.words import counted

LOOKED_AT = 50  # images whose size is read to estimate the memory of all


class Splits:
    """The two splits of a run.

    Attributes:
        train, val: the splits to train on and to score on.
    """

    def __init__(self, data: DataOptions, warn: Callable[[str], None]) -> None:
        self._options = data
        # Not kept in memory yet: only once it is known to fit.
        self.train, self.val = opening.open_splits(replace(data, memory=False), warn)

    def warn_of_overlap(self, warn: Callable[[str], None]) -> None:
        """Warn if images are both trained on and scored, unless one split serves for both."""
        if shared := overlap_warning(self.train, self.val):
            warn(shared)

    def refuse_folder(self, folder: Path, option: str) -> None:
        """Refuse a folder for the run, given by ``option``, that holds images or labels."""
        for split in (self.train, self.val):
            refuse_folder_of_files(folder, split, option)

    def keep_in_memory(self, copies: int = 1) -> None:
        """Decode every image now. Raises UsageError if memory does not suffice for ``copies`` of
        them: each process on a machine has one."""
        needed = copies * sum(decoded_bytes(split) for split in (self.train, self.val))
        machine.check_memory(needed, "--data.memory", "leave it out to decode images as they come")
        self.train, self.val = MemoryDataset(self.train), MemoryDataset(self.val)

    def share_cache(self, size: int) -> str:
        """Keep decoded examples in ``size`` bytes of memory, for this process and its loader
        processes; returns a sentence on how much of the data that holds.

        Raises:
            UsageError: there is not enough memory, or the system cannot share it.
        """
        needed = sum(decoded_bytes(split) for split in (self.train, self.val))
        machine.check_memory(min(size, needed), "--data.cache", "give a smaller one, or none")
        try:
            store = SharedStore(len(self.train) + len(self.val), size)
        except OSError as error:
            raise UsageError(f"--data.cache: {error}; use --data.memory, or neither") from None
        self.train, self.val = (
            CachedDataset(self.train, store),
            CachedDataset(self.val, store, first=len(self.train)),
        )
        held = "all" if needed <= size else f"about {size / needed:.0%}"
        return (
            f"--data.cache: {size_text(size)}, room for {held} of the decoded images "
            f"({size_text(needed)})"
        )

    def record(self, path: Path) -> None:
        """Write the record that ``check`` compares with."""
        write_text(path, json.dumps(self._facts(), indent=1) + "\n")

    def check(self, path: Path) -> None:
        """Refuse to continue if classes or lists are no longer those that ``path`` records.

        Runs of older versions have no record.

        Raises:
            UsageError: something changed; the message names it.
        """
        if not path.exists():
            return
        try:
            before = parse_json(path.read_text(encoding="utf-8"))
            for name, now in self._facts().items():
                _compare(path, name, before[name], now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            other = isinstance(error, (KeyError, TypeError))
            why = "it holds no record of splits" if other else getattr(error, "strerror", error)
            raise UsageError(
                f"{path}: cannot be read ({why}); remove it to continue without the check"
            ) from None

    def _facts(self) -> dict[str, dict[str, Any]]:
        names = {"train": self._options.train_split, "val": self._options.val_split}
        splits = {"train": self.train, "val": self.val}
        return {
            key: {
                "split": names[key],
                "images": len(split),
                "classes": [name for one in split.label_sets for name in one.class_names],
                "fingerprint": fingerprint(split),
            }
            for key, split in splits.items()
        }


def decoded_bytes(split: SegmentationDataset) -> int:
    """Roughly the bytes of a split's decoded images and labels: 4 per pixel, and more with depth or
    several sets of labels."""
    step = max(1, len(split) // LOOKED_AT)
    pixels, looked_at = 0, 0
    for index in range(0, len(split), step):
        try:
            height, width = split.image_size(index)
        except DataError:
            continue  # decoding it will report what is wrong
        pixels += height * width
        looked_at += 1
    per_pixel = 3 + len(split.label_sets)
    per_pixel += 2 * ("depth" in split.channels) + 3 * ("hha" in split.channels)
    return per_pixel * pixels * len(split) // max(1, looked_at)


def _compare(path: Path, name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before["classes"] != now["classes"]:
        changed = [
            f"class {index} was {a!r}, now {b!r}"
            for index, (a, b) in enumerate(zip(before["classes"], now["classes"], strict=False))
            if a != b
        ]
        counts = f"{counted(len(before['classes']), 'class')} then, {len(now['classes'])} now"
        raise UsageError(
            f"{path.parent}: the classes have changed since the run was started "
            f"({changed[0] if changed else counts}); restore them to continue, or start a new run"
        )
    if before["fingerprint"] != now["fingerprint"]:
        counts = f"{counted(before['images'], 'image')} then, {now['images']} now"
        same = "as many images, but other ones, another order, or labels of another meaning"
        raise UsageError(
            f"{path.parent}: the {name} split {now['split']!r} has changed since the run was "
            f"started ({same if before['images'] == now['images'] else counts}); restore it to "
            "continue, or start a new run"
        )
