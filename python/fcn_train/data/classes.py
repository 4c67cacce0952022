"""Reads and checks the names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcn_train.data.lists import read_lines
from fcn_train.data.problems import DataError, Problem, excerpt, is_plain

CLASSES_FILE = "classes.txt"
"""The file in which a user's data set names its classes, one per line."""


def read_class_names(path: Path, missing: str = "") -> tuple[str, ...]:
    """The lines of a file, one class per line; the first is class 0. `missing`: see `read_lines`.

    Raises:
        DataError: if the file cannot be read or has a comment, which would be a class and move all
            others by one, or if `check_class_names` refuses what it names.
    """
    names = read_lines(path, "list of class names", missing)
    for name in names:
        if name.startswith("#"):
            message = f"has the line {_shown(name)}; every line names a class, so remove comments"
            raise DataError(Problem(path, message))
    try:
        return check_class_names(names)
    except ValueError as error:
        message = str(error).replace("class_names", "the names of classes")
        raise DataError(Problem(path, f"{message}; correct the file")) from None


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if they are 1 to 255 different ones of plain text.

    Raises:
        TypeError: if they are one text.
        ValueError: if they are not.
    """
    if isinstance(names, str):  # whose letters would be the names
        raise TypeError(f"class_names must be a list of names, got {_shown(names)}")
    names = tuple(names)
    if not 1 <= len(names) <= 255:
        raise ValueError(f"class_names must hold 1..255 names, got {len(names)}")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not is_plain(name):
            raise ValueError(
                f"class_names must be plain text without control characters: {_shown(name)}"
            )
        if names.count(name) > 1:
            raise ValueError(
                f"class_names must differ, {_shown(name)} is there {names.count(name)} times"
            )
    return names


def _shown(name: object) -> str:
    return repr(excerpt(name) if isinstance(name, str) else name)
