"""What this process may use of the machine."""

from __future__ import annotations

import os


def cpus() -> int:
    return os.cpu_count() or 1
