"""Tests of both packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Many tests start programs. Where Python may not write what it has compiled, and installed packages
# come as source alone, each would spend most of its time compiling torch again. Here all of them
# share one folder for it, away from the sources.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.pycache_prefix = os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / "build" / "pycache")
    )
    sys.dont_write_bytecode = False
