"""Archives, good ones and hostile ones."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train.data import DataError
from fcn_train.data.unpack import unpack

LIMIT = 100_000
Entry = tuple[str, bytes]


def write_tar(path: Path, *entries: Entry, mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_zip(path: Path, *entries: Entry) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries:
            packed.writestr(name, content)


WRITERS: list[tuple[str, Callable[..., None]]] = [
    ("a.tar", write_tar),
    ("a.tgz", lambda path, *entries: write_tar(path, *entries, mode="w:gz")),
    ("a.tar.xz", lambda path, *entries: write_tar(path, *entries, mode="w:xz")),
    ("a.zip", write_zip),
]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_refused(archive: Path, message: str, folder: Path, limit: int = LIMIT) -> None:
    """In one line, and nothing is left of it inside or outside of the folder."""
    before = sorted(os.walk(archive.parent))
    with pytest.raises(DataError, match=message) as caught:
        unpack(archive, folder, limit=limit)
    assert str(caught.value).startswith(f"{archive}: ")
    assert str(caught.value).endswith("; nothing was unpacked: download it again")
    assert "\n" not in str(caught.value)
    assert [*folder.iterdir()] == []
    folder.rmdir()
    assert sorted(os.walk(archive.parent)) == before


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_files_and_folders_are_unpacked(
    name: str, write: Callable[..., None], tmp_path: Path
) -> None:
    content = {"VOC/a.jpg": b"1" * 3000, "VOC/lists/train.txt": b"a\n", "empty": b""}
    write(tmp_path / name, ("VOC/", b""), *content.items())
    folder = tmp_path / "out"
    (folder / "VOC").mkdir(parents=True)
    (folder / "VOC" / "mine.txt").write_text("kept")
    (folder / "empty").write_text("replaced")
    assert unpack(tmp_path / name, folder, limit=LIMIT) == 3
    assert files(folder) == {**content, "VOC/mine.txt": b"kept"}


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize(
    "member",
    [
        *("../evil", "a/../../evil", "/evil", "a/../../../etc/evil", "..\\evil"),
        *("C:\\evil", "C:evil", "a\\..\\evil"),
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(
    name: str, write: Callable[..., None], member: str, tmp_path: Path
) -> None:
    write(tmp_path / name, ("good", b"1"), (member, b"evil"))
    assert_refused(tmp_path / name, "which leads out of the folder", tmp_path / "out")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\N{LINE SEPARATOR}"])
def test_names_that_cannot_be_printed_are_refused(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", (name, b"1"))
    assert_refused(tmp_path / "a.tar", "whose name is no plain text", tmp_path / "out")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        info = tarfile.TarInfo("link")
        info.type = kind
        info.linkname = "/etc/passwd"
        tar.addfile(info)
        through = tarfile.TarInfo("link/evil")
        tar.addfile(through)
    message = "'link', which is no file but a link or a device"
    assert_refused(tmp_path / "a.tar", message, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_links_and_devices_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "a.zip", "'link', which is no file but", tmp_path / "out")


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_more_than_the_limit_is_refused(
    name: str, write: Callable[..., None], tmp_path: Path
) -> None:
    """One large file, or many together; a compressed archive of them may be tiny."""
    for count, size in ((1, LIMIT + 1), (11, LIMIT // 10)):
        write(tmp_path / name, *((f"{n}", bytes(size)) for n in range(count)))
        assert_refused(tmp_path / name, "holds more than 0.1 MiB unpacked", tmp_path / "out")
    write(tmp_path / name, *((f"{n}", bytes(LIMIT // 10)) for n in range(10)))
    assert unpack(tmp_path / name, tmp_path / "out", limit=LIMIT) == 10


def test_a_zip_that_lies_of_its_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path, ("bomb", bytes(5 * LIMIT)))
    content = path.read_bytes()
    path.write_bytes(content.replace((5 * LIMIT).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    assert_refused(path, "cannot be unpacked|holds more than", tmp_path / "out")


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_one_name_twice_is_refused(name: str, write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / name, ("a/b", b"1"), ("A/./B", b"2"))
    assert_refused(tmp_path / name, "twice", tmp_path / "out")


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_broken_archives_are_refused(
    name: str, write: Callable[..., None], share: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, ("a", os.urandom(30_000)), ("b", os.urandom(30_000)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "cannot be unpacked", tmp_path / "out")


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("<html>not found</html>")
    assert_refused(tmp_path / "a.tar", "cannot be unpacked", tmp_path / "out")
    write_tar(tmp_path / "b.tar", ("folder/", b""))
    assert_refused(tmp_path / "b.tar", "holds no file", tmp_path / "out")
    write_tar(tmp_path / "c.tar", (".", b"1"))
    assert_refused(tmp_path / "c.tar", "holds a file without a name", tmp_path / "out")
    with pytest.raises(DataError, match=r"d\.tar: is missing"):
        unpack(tmp_path / "d.tar", tmp_path / "out", limit=LIMIT)


def test_a_file_under_a_password_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path, ("secret", b"1"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert_refused(path, "'secret' under a password", tmp_path / "out")
