"""``python -m benchmarks`` from the project's folder, or ``python PATH/benchmarks``."""

from __future__ import annotations

import sys
from pathlib import Path

# Measure the installed fcn_ext, not the sources beside this folder.
HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in (HERE, HERE.parent)]
sys.path.append(str(HERE.parent))

try:
    from benchmarks.cli import main
except ValueError as error:
    # fcn_ext refuses an environment variable; its exception class cannot be imported then, either.
    if type(error).__name__ != "SettingError":
        raise
    print(f"benchmarks: error: {error}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
