"""Makes the output streams of a command usable, whatever a terminal or a daemon provides."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator

from fcn_train.errors import WriteError

LEAST_COLUMNS = 20
"""The least width for help and bars: below eight, the layout of help never ends."""


def prepare() -> None:
    """Call this first: closed streams are opened on the null device, and a terminal that is too
    narrow counts as a wider one, whose lines it wraps."""
    open_missing_streams()
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)


def open_missing_streams() -> None:
    """Open those of standard input, output and error that are closed (``>&-``, some daemons), so
    that no file of a run gets their number and is written to by prints."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


@contextlib.contextmanager
def printing_to(stream: str) -> Iterator[None]:
    """Inside, a refusal of the system is one to print: the error names the ``stream``, such as
    "standard output". A reader that went away stays a BrokenPipeError.

    Raises:
        WriteError: the disk of a log is full, or a terminal is gone.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(
            f"{stream} cannot be written ({error.strerror or error}); send it elsewhere"
        ) from error
