"""Resolves paths without raising."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """``path`` as ``Path.resolve`` has it: absolute, and without links.

    Links that lead in a circle stay as they are. ``Path.resolve`` raises RuntimeError for these
    before Python 3.13, and whoever opens such a file gets a better word for it.
    """
    return Path(os.path.realpath(path))
