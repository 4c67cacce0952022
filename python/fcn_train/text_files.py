"""Text files that a user names, in bounded memory."""

from __future__ import annotations

import stat
from pathlib import Path

LARGEST = 2**28  # bytes
NOT_UTF8 = "it is no text in UTF-8"
NO_FILE = "it is no file but a device or a pipe"


def read_text(path: Path, *, pipes: bool = True) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        pipes: it may be a pipe, as a shell's ``<(...)``, or a device.

    Raises:
        OSError: the system refuses.
        ValueError: it is too large, or a pipe that must be none; UnicodeError: it is not UTF-8.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"it has {size:,} bytes, more than {LARGEST // 2**20} MiB")
    if not is_special(path):
        return path.read_text(encoding="utf-8-sig")
    if not pipes:
        raise ValueError(NO_FILE)
    with path.open("rb") as file:  # which may have no end
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST // 2**20} MiB")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def is_special(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe or a socket, which may never end, or never begin. Raises
    OSError if there is nothing."""
    mode = path.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))  # of which the system tells
