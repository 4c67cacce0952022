"""What lists of images name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fcn_train.data import DataError, Problem, lists, open_dataset, write_sample_dataset
from fcn_train.data.lists import read_ids, read_lines, read_list, without_suffix


def test_lines_skip_blanks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\n\r\n  b \n")
    assert read_lines(path, "list") == ["a", "b"]


def test_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"list\.txt: list cannot be read .*text file"):
        read_lines(path, "list")


def test_list_without_an_end_is_an_error(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large.txt"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(2**28 + 1)  # of which the disk holds nothing
    for path, found in (
        (pipe, "it is no file but a device or a pipe"),
        (Path(os.devnull), "it is no file but a device or a pipe"),
        (large, "it has 268,435,457 bytes, more than 256 MiB"),
    ):
        message = rf"{path}: list cannot be read \({found}\); give the path of a text file"
        with pytest.raises(DataError, match=message):
            read_lines(path, "list")


@pytest.mark.parametrize(
    "layout", ["voc", "sbd", "pascal-context", "nyud", "nyud-mat", "sift-flow"]
)
@pytest.mark.parametrize("strict", [True, False])
def test_no_list_is_called_nothing(layout: Any, strict: bool, tmp_path: Path) -> None:
    """What means every image to data without lists."""
    root = write_sample_dataset(tmp_path / "set", layout=layout, train=2, val=1, size=32)
    kind = layout.removesuffix("-mat")
    words = 'is split by lists, and the split "" is none; give '
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(kind, root, "", strict=strict)
    assert str(root) in str(caught.value)
    if layout not in ("nyud-mat",):
        assert "one of the lists " in str(caught.value)


def test_suffix_is_dropped_only_where_it_is_an_images() -> None:
    names = ["2007_000032", "a.jpg", "a.b.PNG", "v1.2"]
    assert [without_suffix(name) for name in names] == ["2007_000032", "a", "a.b", "v1.2"]


def ids_of(folder: Path, text: str, *images: str) -> tuple[list[str], list[str]]:
    """What a list names among some images, and what is wrong with it."""
    for name in images:
        (folder / f"{name}.jpg").write_bytes(b"")
    (folder / "list.txt").write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    ids = read_ids(folder / "list.txt", problems, lambda name: folder / f"{name}.jpg")
    return ids, [problem.message for problem in problems]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("street", "street"),
        ("street 2", "street 2"),
        ("street 2 1", "street 2"),
        ("street  -1", "street"),
        ("street 1", "street"),
        ("street 2.jpg", "street 2"),
        ("JPEGImages/street 2.jpg SegmentationClass/street 2.png", "street 2"),
        ("/JPEGImages/street.jpg /SegmentationClassAug/street.png", "street"),
        ("my photos/street 2.jpg", "street 2"),
        (r"photos\street 2.jpg", "street 2"),
        ("street.jpg other/street 2.png", "street"),
        ("a b c", "a b c"),
        ("nothing 3", "nothing 3"),
        ("nothing 1", "nothing"),
        ("nothing SegmentationClass/nothing.png", "nothing"),
    ],
)
def test_names_keep_their_spaces(tmp_path: Path, line: str, expected: str) -> None:
    ids, problems = ids_of(tmp_path, line, "street", "street 2", "a b c", "a")
    assert (ids, problems) == ([expected], [])


def test_characters_that_end_lines_elsewhere_do_not_end_a_name(tmp_path: Path) -> None:
    name = "a\u2028b\x0bc\x85d"
    (tmp_path / "list.txt").write_text(f"{name}\r\nsecond\rthird\n", encoding="utf-8")
    assert read_lines(tmp_path / "list.txt", "list") == [name, "second", "third"]


@pytest.mark.parametrize("line", ["../x", "a/../../x.jpg", "..\\x", "../x 1", "../street 2.jpg"])
def test_names_that_leave_the_data_set_are_refused(tmp_path: Path, line: str) -> None:
    ids, problems = ids_of(tmp_path, f"street\n{line}\n", "street", "x", "street 2")
    assert ids == ["street"]
    assert len(problems) == 1
    assert "a file outside the data set; move it there or take it off the list" in problems[0]


def test_path_of_another_file_is_refused_and_of_the_same_is_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "x.jpg").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    ids, problems = ids_of(tmp_path, f"{tmp_path / 'other' / 'x.jpg'}\n")
    assert (ids, len(problems)) == ([], 1)
    for same in (tmp_path / "x.jpg", tmp_path / "link" / "x.jpg", Path("/JPEGImages/x.jpg")):
        assert ids_of(tmp_path, f"{same}\n") == (["x"], [])


@pytest.mark.parametrize("layout", ["voc", "sbd", "nyud", "sift-flow", "camvid", "folder"])
def test_a_list_that_is_missing_is_told_with_those_that_are_there(
    layout: Any, tmp_path: Path
) -> None:
    root = write_sample_dataset(tmp_path, train=2, val=2, size=32, layout=layout)
    with pytest.raises(DataError) as caught:
        open_dataset(layout, root, "nothing")
    expected = {"sift-flow": "test, trainval", "voc": "train, trainval, val"}
    lists = expected.get(layout, "test, train, val" if layout == "nyud" else "train, val")
    assert f"; give the path of a text file, or one of the lists {lists}" in str(caught.value)


def test_no_list_at_all_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*\); give the path of a text file$"):
        read_list(tmp_path / "train.txt", "list of images")
    with pytest.raises(DataError, match=r"No such file.*\); put it there$"):
        read_list(tmp_path / "train.txt", "list of images", "put it there")
    (tmp_path / "train.txt").mkdir()
    with pytest.raises(DataError, match=r"directory\); give the path of a text file$"):
        read_list(tmp_path / "train.txt", "list of images", "put it there")


def test_lists_that_the_archive_lacks_are_asked_for(tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path, train=2, val=2, size=32, layout="sift-flow")
    for name in ("trainval", "test"):
        (root / f"{name}.txt").unlink()
    message = r"trainval\.txt: .*; the archive has no lists: put the published trainval.txt and tes"
    with pytest.raises(DataError, match=message):
        open_dataset("sift-flow", root, "trainval")


def test_a_folder_without_labels_txt_is_told(tmp_path: Path) -> None:
    message = r"labels\.txt: .*No such file.*; give the folder that holds trainval and labels.txt$"
    with pytest.raises(DataError, match=message):
        open_dataset("pascal-context", tmp_path, "train")


def test_lists_of_too_many_lines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_MOST_LINES", 1000)
    path = tmp_path / "train.txt"
    path.write_text("a\n" * 1000)
    assert len(read_lines(path, "list of images")) == 1000
    for line in ("a\n", "\n"):
        path.write_text(line * 1234)
        with pytest.raises(DataError, match=r"list of images has 1,234 lines, more than 1,000; gi"):
            read_lines(path, "list of images")
