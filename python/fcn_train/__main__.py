"""``python -m fcn_train`` is the command ``fcn``."""

from __future__ import annotations

import sys

from fcn_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
