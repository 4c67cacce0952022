"""Packages that every command needs, and what is said where one is missing.

Imports nothing of them, so that `fcn doctor` can tell of each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

# Modules, and the packages that bring them: those of pyproject.toml.
PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "rich": "rich",
    "safetensors": "safetensors",
    "tyro": "tyro",
}


def what_is_missing(error: BaseException) -> str:
    """One line for an import that found no package; "" for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    if error.name in PACKAGES:
        package = PACKAGES[error.name]
        return f"{package} is missing; install it: pip install {package}"
    if error.name.partition(".")[0] in {"fcn_ext", "fcn_train"}:
        return ""
    return f"{error}; pip check tells what the installed packages lack"


def end_without(error: ModuleNotFoundError, arguments: Sequence[str]) -> int:
    """What a command does that could not be read, as its parser is missing; returns the exit code.

    Raises:
        ModuleNotFoundError: ``error``, where it is about no package.
    """
    text = what_is_missing(error)
    if not text:
        raise error
    if arguments[:1] == ["doctor"]:
        from fcn_train.doctor.command import doctor

        return 1 if doctor(as_json="--json" in arguments) else 0
    print(f"fcn: {text}", file=sys.stderr)
    return 2
