"""Problems are told in text that any terminal and file takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcn_train.data import DataError, FolderSegmentation, Problem, check_dataset
from fcn_train.data.problems import is_plain, printable


@pytest.mark.parametrize("text", ["", "plain", "Straße 道路", "$x$", "e\u0301"])
def test_plain_text_stays(text: str) -> None:
    assert is_plain(text)
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x07b", r"a\x07b"), ("\udcff", r"\udcff"), ("a\nb", r"a\nb")]
)
def test_the_rest_is_escaped(text: str, shown: str) -> None:
    assert not is_plain(text)
    assert printable(text) == shown
    assert str(Problem(Path(text), text)) == f"{shown}: {shown}"


@pytest.mark.parametrize("stem", [b"\xff", b"bell\x07", b"two\nlines"])
def test_images_whose_names_are_no_plain_text_are_named(tmp_path: Path, stem: bytes) -> None:
    for folder, ending in (("images", b".png"), ("labels", b".png")):
        (tmp_path / folder).mkdir()
        with open(os.path.join(os.fsencode(tmp_path), folder.encode(), stem + ending), "wb"):
            pass
    with pytest.raises(DataError, match="which is no plain UTF-8 text; rename the file"):
        FolderSegmentation(tmp_path, num_classes=2)
    dataset = FolderSegmentation(tmp_path, num_classes=2, strict=False)
    problems = [str(problem) for problem in check_dataset(dataset)]
    assert "no plain UTF-8 text" in problems[0]
    assert all(problem.isprintable() and problem.encode() for problem in problems)
