"""The images a run is trained and scored on, and how it knows them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from fcn_train import machine
from fcn_train.data import MemoryDataset, SegmentationDataset, fingerprint
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.options import DataOptions
from fcn_train.run import open_split

LOOKED_AT = 50  # images whose size is read to estimate that of all


class Splits:
    """The two splits of a run.

    Attributes:
        train, val: what is trained on and scored on.
    """

    def __init__(self, data: DataOptions) -> None:
        self._options = data
        self.train = open_split(data, data.train_split)
        self.val = open_split(data, data.val_split)

    def keep_in_memory(self) -> None:
        """Decode every image now. Raises UsageError where memory will not hold them."""
        needed = sum(decoded_bytes(split) for split in (self.train, self.val))
        machine.check_memory(needed, "--data.memory", "leave it out to decode images as they come")
        self.train, self.val = MemoryDataset(self.train), MemoryDataset(self.val)

    def record(self, path: Path) -> None:
        """Write what ``check`` compares with."""
        write_text(path, json.dumps(self._facts(), indent=1) + "\n")

    def check(self, path: Path) -> None:
        """Refuse to go on where classes or lists are no longer those that ``path`` records.

        Files that a list names must still be there. A run of a time before the record has none.

        Raises:
            UsageError: something changed; the message names it.
        """
        for split in (self.train, self.val):
            for index in range(len(split)):
                for file in (split.image_path(index), split.label_path(index)):
                    if not file.exists():
                        raise UsageError(
                            f"{file}: is gone since the run was started; restore it to continue"
                        )
        if not path.exists():
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            for name, now in self._facts().items():
                _compare(path, name, before[name], now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}: cannot be read ({error}); remove it to continue without the check"
            ) from None

    def _facts(self) -> dict[str, dict[str, Any]]:
        names = {"train": self._options.train_split, "val": self._options.val_split}
        splits = {"train": self.train, "val": self.val}
        return {
            key: {
                "split": names[key],
                "images": len(split),
                "classes": list(split.class_names),
                "fingerprint": fingerprint(split),
            }
            for key, split in splits.items()
        }


def decoded_bytes(split: SegmentationDataset) -> int:
    """About what the decoded images and labels of a split take: 4 bytes per pixel."""
    step = max(1, len(split) // LOOKED_AT)
    pixels, looked_at = 0, 0
    for index in range(0, len(split), step):
        try:
            with Image.open(split.image_path(index)) as picture:
                pixels += picture.width * picture.height
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # decoding says what is wrong with it
        looked_at += 1
    return 4 * pixels * len(split) // max(1, looked_at)


def _compare(path: Path, name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before["classes"] != now["classes"]:
        changed = [
            f"class {index} was {a!r}, now {b!r}"
            for index, (a, b) in enumerate(zip(before["classes"], now["classes"], strict=False))
            if a != b
        ]
        counts = f"{len(before['classes'])} classes then, {len(now['classes'])} now"
        raise UsageError(
            f"{path.parent}: the classes have changed since the run was started "
            f"({changed[0] if changed else counts}); restore them to continue, or start a new run"
        )
    if before["fingerprint"] != now["fingerprint"]:
        counts = f"{before['images']} images then, {now['images']} now"
        same = "as many images, but other ones, another order, or labels of another meaning"
        raise UsageError(
            f"{path.parent}: the {name} split {now['split']!r} has changed since the run was "
            f"started ({same if before['images'] == now['images'] else counts}); restore it to "
            "continue, or start a new run"
        )
