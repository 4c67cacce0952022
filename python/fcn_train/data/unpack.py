"""Unpacks untrusted archives: regular files only, none outside the folder, and no more than the
limit."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fcn_train.data.problems import DataError, Problem, is_plain, printable, reason
from fcn_train.files import in_mib, make_folder, refused_as_write_error

__all__ = ["unpack"]

_CHUNK = 2**20
_MOST_FILES = 1_000_000
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, LZMAError),
    *(EOFError, NotImplementedError),
)


class _Member(NamedTuple):
    """A file in an archive: its path there, and a function that opens its content."""

    name: str
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, limit: int) -> int:
    """Unpack a .tar, in any compression, or a .zip.

    Nothing appears in `folder` until everything has been read and checked. Existing files are
    replaced by those of the archive.

    Args:
        archive: the file to unpack.
        folder: where its content goes; created if it does not exist.
        limit: the most bytes that it may hold unpacked, whatever it declares.

    Returns:
        The number of files.

    Raises:
        DataError: if it is not an archive or is broken; if it holds anything but files and folders,
            such as links and devices; if a name leads out of the folder, occurs twice or is not
            plain text; if it holds more than `limit` bytes.
        WriteError: if the disk refused.

    Example:
        >>> unpack(Path("set.tar"), Path("data"), limit=10**9)  # doctest: +SKIP
        1204
    """
    make_folder(folder)
    with refused_as_write_error(folder):
        workshop = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        count = _unpack_into(workshop, archive, limit)
        with refused_as_write_error(folder):
            _move(workshop, folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return count


def _unpack_into(workshop: Path, archive: Path, limit: int) -> int:
    left, seen = limit, set[str]()
    try:
        with _members(archive) as members:
            for member in members:
                path = _inside(archive, member.name)
                if not path.parts:
                    raise _refused(archive, f"holds a file without a name, {member.name!r}")
                key = str(path).casefold()  # as on disks that ignore case
                if key in seen:
                    raise _refused(archive, f"holds {printable(member.name)!r} twice")
                seen.add(key)
                if len(seen) > _MOST_FILES:
                    raise _refused(archive, f"holds more than {_MOST_FILES:,} files")
                with member.open() as content:
                    left -= _copy(content, workshop / path, left)
                if left < 0:
                    raise _refused(archive, f"holds more than {in_mib(limit)} unpacked")
    except _BROKEN as error:
        raise _refused(archive, f"cannot be unpacked ({reason(error)})") from error
    if not seen:
        raise _refused(archive, "holds no file")
    return len(seen)


def _copy(content: IO[bytes], target: Path, left: int) -> int:
    """Write a file of at most `left` bytes and one more piece; returns how many were written."""
    written = 0
    with refused_as_write_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    with file:
        while written <= left and (piece := content.read(_CHUNK)):
            with refused_as_write_error(target):
                file.write(piece)
            written += len(piece)
    return written


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The files of an archive, in order; folders are left out, anything else is refused."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                yield _zip_members(archive, packed)
            return
        with tarfile.open(archive, "r:*") as tar:
            yield _tar_members(archive, tar)
    except FileNotFoundError:
        raise _refused(archive, "is missing") from None
    except tarfile.ReadError as error:
        raise _refused(archive, f"cannot be unpacked ({reason(error)})") from error


def _zip_members(archive: Path, packed: zipfile.ZipFile) -> Iterator[_Member]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() and kind in (0, stat.S_IFDIR):
            _inside(archive, info.filename)
        elif kind not in (0, stat.S_IFREG):
            raise _no_file(archive, info.filename)
        elif info.flag_bits & 1:
            raise _refused(archive, f"holds {printable(info.filename)!r} under a password")
        else:
            yield _Member(info.filename, lambda info=info: packed.open(info))  # type: ignore[misc]


def _tar_members(archive: Path, tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            _inside(archive, info.name)
        elif not info.isreg():
            raise _no_file(archive, info.name)
        else:
            content = tar.extractfile(info)
            assert content is not None  # of a regular file
            yield _Member(info.name, lambda content=content: content)  # type: ignore[misc]


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The path of a member, which must be below the folder."""
    path = PurePosixPath(name)
    drive = name[1:2] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or drive:
        raise _refused(archive, f"holds {printable(name)!r}, which leads out of the folder")
    if not is_plain(name):
        raise _refused(archive, f"holds {printable(name)!r}, whose name is no plain text")
    return path


def _move(workshop: Path, folder: Path) -> None:
    """Move everything below `workshop` to the same path below `folder`."""
    for source in sorted(workshop.rglob("*")):
        target = folder / source.relative_to(workshop)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(source, target)


def _no_file(archive: Path, name: str) -> DataError:
    return _refused(archive, f"holds {printable(name)!r}, which is no file but a link or a device")


def _refused(archive: Path, what: str) -> DataError:
    return DataError(Problem(archive, f"{what}; nothing was unpacked: download it again"))
