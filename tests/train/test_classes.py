"""``classes.json`` of a run folder, and files that only have its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.classes import load_classes
from fcn_train.errors import UsageError

SKY = (
    b'{"classes": [{"name": "sky", "colour": [0, 0, 0]}, {"name": "sun", "colour": [1, 2, 3]}], '
    b'"ignore_colour": [9, 9, 9]}'
)
COLORS = r"{} must be three integers in 0\.\.255, got {}"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"", "Expecting value: .*"),
        (b"\xff", "it is no text in UTF-8"),
        (b"[]", r"it must be an object, got \[\]"),
        (b'{"label_sets": []}', r"label_sets must be a list, got \[\]"),
        (b'{"label_sets": [7]}', r"classes must be a list of 1\.\.255, got None"),
        (b"{}", r"classes must be a list of 1\.\.255, got None"),
        (b'{"classes": []}', r"classes must be a list of 1\.\.255, got \[\]"),
        (b'{"classes": [7]}', "class 0 must have a name of its own, got 7"),
        (SKY.replace(b'"sky"', b"5"), "class 0 must have a name of its own, got {.*"),
        (SKY.replace(b'"sun"', b'"sky"'), "class 1 must have a name of its own, got {.*"),
        (SKY.replace(b"[1, 2, 3]", b"[1, 2]"), COLORS.format("colour of class 1", r"\[1, 2\]")),
        (SKY.replace(b"2, 3]", b"2, 999]"), COLORS.format("colour of class 1", ".*999.*")),
        (SKY.replace(b"2, 3]", b"2, -1]"), COLORS.format("colour of class 1", ".*-1.*")),
        (SKY.replace(b"2, 3]", b"2, 3.5]"), COLORS.format("colour of class 1", r".*3\.5.*")),
        (SKY.replace(b"2, 3]", b"2, true]"), COLORS.format("colour of class 1", ".*True.*")),
        (SKY.replace(b"[9, 9, 9]", b"null"), COLORS.format("ignore_colour of void", "None")),
    ],
)
def test_files_that_hold_no_classes_are_named(
    content: bytes | None, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "classes.json"
    if content is not None:
        path.write_bytes(content)
    if content is not None:
        found = rf"does not hold the classes of a run \({found}\)"
    with pytest.raises(UsageError, match=rf"^{path}: {found}; give a run folder$"):
        load_classes(path)


def test_classes_that_are_right(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_bytes(SKY)
    (found,) = load_classes(tmp_path / "classes.json")
    assert found.names == ("sky", "sun")
    assert found.palette[[0, 1, 255]].tolist() == [[0, 0, 0], [1, 2, 3], [9, 9, 9]]
