"""``python -m fcn_train`` and the command ``fcn``."""

from __future__ import annotations

import os
import sys

try:
    from fcn_train.signals import ending_at_once, let_sigint_end
except KeyboardInterrupt:  # the very first moments, when nothing handles it yet
    os.write(2, b"fcn: interrupted\n")
    sys.exit(130)


def main() -> int:
    """The command of this process's arguments; returns the exit code."""
    try:
        with ending_at_once():
            from fcn_train.cli import main as command
    except ModuleNotFoundError as error:
        from fcn_train.needed import end_without

        return end_without(error, sys.argv[1:])
    code = command()
    let_sigint_end()
    return code


if __name__ == "__main__":
    sys.exit(main())
