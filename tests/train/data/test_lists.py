"""What lists of images name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.data import DataError
from fcn_train.data.lists import read_lines, without_suffix


def test_lines_skip_blanks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\n\r\n  b \n")
    assert read_lines(path, "list") == ["a", "b"]


def test_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"list\.txt: list cannot be read .*text file"):
        read_lines(path, "list")


def test_suffix_is_dropped_only_where_it_is_an_images() -> None:
    names = ["2007_000032", "a.jpg", "a.b.PNG", "v1.2"]
    assert [without_suffix(name) for name in names] == ["2007_000032", "a", "a.b", "v1.2"]
