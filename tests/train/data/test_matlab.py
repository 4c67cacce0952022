from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fcn_train.data import DataError
from fcn_train.data.matlab import ValueTable, read_matlab

LABEL = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64])
@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_of_any_type_are_read(tmp_path: Path, dtype: type, compressed: bool) -> None:
    savemat(tmp_path / "a.mat", {"S": LABEL.astype(dtype)}, do_compression=compressed)
    label = read_matlab(tmp_path / "a.mat", "S")
    assert label.dtype == np.int64
    assert label.tolist() == LABEL.tolist()


def test_field_of_a_structure_is_read(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"GTcls": {"Boundaries": 1, "Segmentation": LABEL}})
    assert read_matlab(tmp_path / "a.mat", "GTcls.Segmentation").tolist() == LABEL.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"T": LABEL}, "holds no variable S; give"),
        ({"S": LABEL[None].repeat(2, 0)}, r"S is no matrix of numbers but uint8 \(2, 2, 3\)"),
        ({"S": "text"}, "S is no matrix of numbers but <U4"),
        ({"S": LABEL + 0.5}, "S holds numbers that are not whole"),
        ({"S": LABEL + np.nan}, "S holds numbers that are not whole"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: dict, message: str) -> None:
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match=rf"a\.mat: .*{message}") as caught:
        read_matlab(tmp_path / "a.mat", "S")
    assert caught.value.problem.kind == "label without its matrix"  # summed up where there are many


def test_structure_without_the_field_is_named(tmp_path: Path) -> None:
    for content in ({"GTcls": {"Boundaries": 1}}, {"GTcls": LABEL}):
        savemat(tmp_path / "a.mat", content)
        with pytest.raises(DataError, match=r"holds no variable GTcls\.Segmentation"):
            read_matlab(tmp_path / "a.mat", "GTcls.Segmentation")


def test_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mat").write_text("not MATLAB")
    with pytest.raises(DataError, match=r"text\.mat: label cannot be decoded"):
        read_matlab(tmp_path / "text.mat", "S")
    savemat(tmp_path / "cut.mat", {"S": LABEL.repeat(100, 0)})
    content = (tmp_path / "cut.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.mat: label cannot be decoded"):
        read_matlab(tmp_path / "cut.mat", "S")
    with pytest.raises(DataError, match=r"absent\.mat: label is missing"):
        read_matlab(tmp_path / "absent.mat", "S")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384), "saved as version 7.3"),
        (b"", "no known MATLAB format"),
        (b"<html>404 Not Found</html>", "no known MATLAB format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "no known MATLAB format"),
    ],
)
@pytest.mark.parametrize("published", ["", "the published splits"])
def test_file_of_another_format_says_what_to_do(
    tmp_path: Path, content: bytes, why: str, published: str
) -> None:
    """The labels of one's own, or a page in place of the file; of a label or of the whole set."""
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_matlab(tmp_path / "a.mat", "S", published)
    text = str(caught.value)
    assert f"a.mat: {'' if published else 'label '}cannot be decoded (" in text
    assert why in text
    if "7.3" in why:
        assert text.endswith("save it again as version 7: save(..., '-v7') in MATLAB")
    else:
        what = published and f"give {published}"
        assert text.endswith(f"; {what or 'replace the file or take it off the list'}")


@pytest.mark.parametrize("content", [{"T": LABEL}, {"S": "text"}, {"S": LABEL + 0.5}])
def test_files_of_a_whole_set_are_not_called_labels(tmp_path: Path, content: dict) -> None:
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match=r"; give the published mapping$"):
        read_matlab(tmp_path / "a.mat", "S", "the published mapping")


def test_file_of_images_and_labels_is_not_read_for_its_labels(tmp_path: Path) -> None:
    message = r"all\.mat: holds more than one label map; NYUDv2 reads them with its images"
    with pytest.raises(TypeError, match=message):
        ValueTable("NYUDv2", {1: 0}).decode(tmp_path / "all.mat")


def test_without_scipy_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savemat(tmp_path / "a.mat", {"S": LABEL})
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"a\.mat: is a MATLAB file.*pip install scipy"):
        read_matlab(tmp_path / "a.mat", "S")
