"""Names of classes are plain text, and differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.data import DataError, FolderSegmentation, VocSegmentation
from fcn_train.data.classes import check_class_names, read_class_names


def test_plain_names_of_any_script_are_taken(tmp_path: Path) -> None:
    names = ("ground", r"$\frac{$", "Straße", "道路", "two words", "a=1", "e\u0301")
    assert check_class_names(names) == names
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    assert read_class_names(tmp_path / "classes.txt") == names


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "b\tc"),
        ("a", "bell\x07"),
        ("a", "line\u2028break"),
        ("a", "\udcff"),
        ("a", " "),
        ("a", ""),
        (),
        tuple(str(index) for index in range(256)),
    ],
)
def test_other_names_are_refused_wherever_they_come_from(
    names: tuple[str, ...], tmp_path: Path, voc_root: Path
) -> None:
    with pytest.raises(ValueError, match="class_names must "):
        check_class_names(names)
    with pytest.raises(ValueError, match="class_names must "):
        VocSegmentation(voc_root, "train", class_names=names)
    listing = tmp_path / "classes.txt"
    listing.write_bytes("\n".join(names).encode("utf-8", "surrogateescape"))
    if all(name.strip() for name in names):
        with pytest.raises(DataError) as caught:
            FolderSegmentation(tmp_path)
        assert str(caught.value).startswith(f"{listing}: ")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("comment", ["# my classes", "#", "# label:color_rgb:parts:actions"])
def test_a_comment_is_no_class(comment: str, tmp_path: Path) -> None:
    """It would be class 0, and every other class would have the name before its own."""
    listing = tmp_path / "classes.txt"
    listing.write_text(f"{comment}\nground\nC# # sharp\n")
    with pytest.raises(DataError, match="every line names a class, so remove comments"):
        read_class_names(listing)
    listing.write_text("ground\nC# # sharp\n")
    assert read_class_names(listing) == ("ground", "C# # sharp")
