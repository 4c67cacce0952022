"""Problems are told in text that any terminal and file takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcn_train.data import DataError, FolderSegmentation, Problem, check_dataset
from fcn_train.data.problems import Problems, is_plain, printable


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


def _problem(number: int, kind: str) -> Problem:
    return Problem(Path(f"{number}.png"), "is broken", kind)


def test_of_many_problems_all_are_counted_and_the_first_kept() -> None:
    found = [_problem(number, "ab"[number % 3 == 0]) for number in range(9)]
    problems = Problems(found, keep=2)
    assert [problem.path.stem for problem in problems] == ["0", "1", "2", "3"]
    assert (len(problems), dict(problems.counts)) == (9, {"a": 6, "b": 3})
    assert dict(problems.dropped()) == {"a": 4, "b": 1}

    more = Problems(keep=3)
    more.append(_problem(10, "a"))
    more += problems
    assert [problem.path.stem for problem in more] == ["10", "0", "1", "2", "3"]
    assert (len(more), dict(more.counts)) == (10, {"a": 7, "b": 3})
    assert not Problems()
