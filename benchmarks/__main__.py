"""``python -m benchmarks`` from the project's folder."""

from __future__ import annotations

import sys
from pathlib import Path

# The fcn_ext that is installed is measured, not the sources that lie beside this folder.
ROOT = str(Path(__file__).resolve().parent.parent)
sys.path[:] = [entry for entry in sys.path if str(Path(entry).resolve()) != ROOT] + [ROOT]

from benchmarks.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
