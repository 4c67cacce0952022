"""Files of JSON that somebody else wrote: what cannot be read is one line, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train import config, run_scores
from fcn_train.class_weights import weights_from_file
from fcn_train.classes import load_classes
from fcn_train.errors import UsageError
from fcn_train.export.metadata import metadata_from_json
from fcn_train.json_text import parse_json

DEEP = "[" * 100_000
READERS: list[Callable[[Path], object]] = [
    load_classes,
    run_scores.read_json,
    lambda path: weights_from_file(path, 3),
    lambda path: config.read_json(path, "give another"),
]


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "{", "\ufeff\x00", ""])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("text", [DEEP, "{"])
@pytest.mark.parametrize("read", READERS)
def test_readers_name_the_file(read: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"file\.json: "):
        read(path)


def test_metadata_of_a_file_from_elsewhere() -> None:
    with pytest.raises(ValueError, match="they are not JSON, it is nested too deeply"):
        metadata_from_json(DEEP)


def test_objects_are_made_by_a_function() -> None:
    assert parse_json('{"a": [1], "b": {"c": null}}') == {"a": [1], "b": {"c": None}}
    assert parse_json('{"a": 1, "a": 2}', of_object=list) == [("a", 1), ("a", 2)]
