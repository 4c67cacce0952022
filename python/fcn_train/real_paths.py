"""Resolves paths without raising."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """``path`` as from ``Path.resolve``: absolute, and without links.

    Circular links stay as they are: ``Path.resolve`` raises RuntimeError for these before Python
    3.13, while opening such a file gives a better error.
    """
    return Path(os.path.realpath(path))
