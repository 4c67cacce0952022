"""``classes.json`` of a run folder, and files that only have its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.classes import load_classes
from fcn_train.errors import UsageError


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"", r"does not hold the classes of a run \(JSONDecodeError: .*\)"),
        (b"\xff", r"does not hold the classes of a run \(UnicodeDecodeError: .*\)"),
        (b"[]", r"does not hold the classes of a run \(AttributeError: 'list' .*\)"),
        (b"{}", r"does not hold the classes of a run \(KeyError: 'classes'\)"),
        (b'{"classes": [7]}', r"does not hold the classes of a run \(TypeError: .*\)"),
        (
            b'{"classes": [{"name": "sky", "colour": [1, 2]}], "ignore_colour": [0, 0, 0]}',
            r"does not hold the classes of a run \(ValueError: .*\)",
        ),
    ],
)
def test_files_that_hold_no_classes_are_named(
    content: bytes | None, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "classes.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{path}: {found}; give a run folder$"):
        load_classes(path)
