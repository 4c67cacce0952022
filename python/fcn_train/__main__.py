"""``python -m fcn_train`` and the command ``fcn``."""

from __future__ import annotations

import sys

from fcn_train.signals import ending_at_once


def main() -> int:
    """The command of this process's arguments; returns the exit code."""
    with ending_at_once():
        from fcn_train.cli import main as command
    return command()


if __name__ == "__main__":
    sys.exit(main())
