"""Lets only one process at a time train in a run folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fcn_train.errors import UsageError
from fcn_train.files import refused_as_write_error

try:
    import fcntl
except ImportError:  # a system without it has no lock
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process. The system releases the lock however the process ends.

    Raises:
        UsageError: another process holds it.
    """
    path = folder / NAME
    descriptor = _taken(path)
    try:
        yield
    finally:
        # Removed while it is held: a process that opened it before finds it gone and opens a new
        # one.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _taken(path: Path) -> int:
    """A descriptor of the file ``path`` that holds the lock."""
    while True:
        with refused_as_write_error(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise UsageError(
                f"{path.parent}: is being trained by another process"
                f"{f' ({owner})' if owner else ''}; wait until it ends, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            current = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except OSError:
            current = False
        if current:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)
