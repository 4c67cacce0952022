"""Writes the curves of a run for TensorBoard.

An event file is a sequence of records, each a protocol buffer framed by its length and two
checksums. The few fields that a curve needs are written here, so that a training needs no
TensorBoard and learns at once when the disk refuses. Formats: TFRecord (tensorflow/core/lib/io/
record_writer.h), Event and Summary (tensorboard/compat/proto/event.proto, summary.proto).
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from fcn_train.files import make_folder, refused_as_write_error
from fcn_train.history import SCORES, History

FOLDER = "tensorboard"
FILES = "events.out.tfevents.*"


class EventFile:
    """The rows of a history as scalars by step, in a folder of their own below a run's.

    An earlier file is replaced, as its last points may belong to steps that a continued run takes
    again; the new one begins with all that the history holds. It also tells a running TensorBoard
    to drop the points that it has.

    Args:
        run: folder of the run.

    Raises:
        WriteError: the disk refused; from ``follow``, too.
    """

    def __init__(self, run: Path) -> None:
        folder = run / FOLDER
        make_folder(folder)
        now = time.time()
        self.path = folder / f"events.out.tfevents.{int(now):010d}.fcn"
        with refused_as_write_error(self.path):
            for old in folder.glob(FILES):
                old.unlink()
        self._rows = [0, 0]
        self._append([event(now, 0, version="brain.Event:2"), event(now, 0, starts=True)])

    def follow(self, history: History) -> None:
        """Write the rows added since the last call."""
        now, events = time.time(), []
        of_heads = [f"train/{name}/loss" for name in history.label_sets]
        begun = self._rows[0]
        for (step, _, lr, loss), heads in zip(
            history.training[begun:], history.head_losses[begun:], strict=True
        ):
            # Empty for a network with one head, and in rows of versions that did not log them.
            scalars = {"train/loss": loss, "train/lr": lr, **dict(zip(of_heads, heads))}  # noqa: B905
            events.append(event(now, int(step), scalars=scalars))
        names = [
            f"val/{name}/{score}" if name else f"val/{score}"
            for name in history.label_sets
            for score in SCORES
        ]
        for step, _, *values in history.evaluations[self._rows[1] :]:
            scalars = dict(zip(names, values, strict=True))
            events.append(event(now, int(step), scalars=scalars))
        self._append(events)
        self._rows = [len(history.training), len(history.evaluations)]

    def _append(self, events: Sequence[bytes]) -> None:
        if events:
            with refused_as_write_error(self.path), self.path.open("ab") as file:
                file.write(b"".join(map(record, events)))


def remove_event_file(run: Path) -> None:
    """Remove the curves of a run that continues without them, and nothing else in their folder."""
    folder = run / FOLDER
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{FILES}.fcn"):
            path.unlink()
        folder.rmdir()  # fails if it holds files of others


def record(content: bytes) -> bytes:
    """``content`` in the frame of a TFRecord."""
    length = struct.pack("<Q", len(content))
    return b"".join(
        [length, struct.pack("<I", masked(length)), content, struct.pack("<I", masked(content))]
    )


def event(
    wall_time: float,
    step: int,
    *,
    scalars: dict[str, float] | None = None,
    version: str = "",
    starts: bool = False,
) -> bytes:
    """An Event: scalars by tag, the version that the first record of a file has, or that steps
    from ``step`` on are taken again."""
    parts = [b"\x09", struct.pack("<d", wall_time), b"\x10", _varint(step)]
    if version:
        parts.append(_field(3, version.encode()))
    if scalars:
        values = (
            _field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in scalars.items()
        )
        parts.append(_field(5, b"".join(values)))
    if starts:
        parts.append(_field(7, b"\x08\x01"))
    return b"".join(parts)


def masked(content: bytes) -> int:
    """The checksum of a TFRecord: CRC-32C, rotated, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A number >= 0 in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _table() -> list[int]:
    """CRC-32C of every byte; 0x82F63B78 is Castagnoli's polynomial, its bits reversed."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _table()
