"""Paths on the command line: refuses empty paths and wrong endings, and reads ``~`` after ``=``.

An unset variable of a shell gives a path of no characters (``--root "$DATA"``), and Python takes it
for the folder that one is in.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from fcn_train.errors import UsageError

__all__ = ["add_paths", "expand_homes", "refuse_empty_paths", "refuse_other_ending"]

_EMPTY = Path()  # known by its identity: "." is a path like any other


def add_paths(registry: ConstructorRegistry) -> None:
    """Have ``registry`` read paths so that ``refuse_empty_paths`` knows those of no characters."""
    registry.primitive_rule(_path)


def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]) if words[0] else _EMPTY,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def expand_homes(arguments: Sequence[str]) -> list[str]:
    """``--output=~/run`` as ``--output ~/run`` comes from a shell: bash leaves it as it is, and a
    folder called ``~`` would be made."""
    return [
        f"{found[1]}{os.path.expanduser(found[2])}"
        if (found := re.fullmatch(r"(--[\w.-]+=)(~(?:/.*)?)", argument, re.DOTALL))
        else argument
        for argument in arguments
    ]


def refuse_empty_paths(options: Any, prefix: str = "--") -> None:
    """Raises UsageError where one of ``options`` was given as a path of no characters."""
    hints = get_type_hints(type(options), include_extras=True)
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if dataclasses.is_dataclass(value):
            refuse_empty_paths(value, f"{prefix}{item.name}.")
        elif any(one is _EMPTY for one in (value if isinstance(value, tuple) else (value,))):
            name = _argument(hints[item.name], item.name) or f"{prefix}{item.name}"
            raise UsageError(f"{name.replace('_', '-')} must be a path, got ''")


def refuse_other_ending(path: Path, ending: str, option: str) -> None:
    """Raises UsageError where the file that ``option`` gives does not end in ``ending``: what has
    another may be a list of images or notes, and would be replaced."""
    if path.suffix.lower() != ending:
        raise UsageError(f"{option} must end in {ending}, got {path}")


def _argument(hint: Any, name: str) -> str:
    """What help calls the argument of a field with this type; "" that of an option."""
    marks = get_args(hint)[1:] if hasattr(hint, "__metadata__") else ()
    if tyro.conf.Positional not in marks:
        return ""
    return next((mark.metavar for mark in marks if hasattr(mark, "metavar")), name.upper())
