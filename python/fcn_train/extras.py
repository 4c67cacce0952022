"""Optional packages that only some commands need."""

from __future__ import annotations

import importlib
from typing import Any

from fcn_train.errors import UsageError


def import_extra(name: str, what: str, extra: str) -> Any:
    """The module ``name``.

    Args:
        what: what needs the module, for the message.
        extra: the extra of fcn_ext that installs it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise UsageError(
            f"{what} needs {missing}; install it: pip install 'fcn_ext[{extra}]'"
        ) from None
