"""Writes files that are either complete or absent, and explains why the disk refused one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from fcn_train.errors import WriteError

# Errors of the system that another place would avoid.
WRONG_PLACE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP),
}
WRONG_NAME = WRONG_PLACE | {errno.ENAMETOOLONG}  # errors that another path would avoid on any disk
MOST_NAME_BYTES = 255  # of a file's name, on the usual file systems


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` that takes its name when the block succeeds.

    Raises:
        WriteError: the disk refused.
    """
    with refused_as_write_error(path):
        temporary = temporary_path(path)
    try:
        with refused_as_write_error(path):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Where ``path`` is written before it gets its name, even one as long as a name can be."""
    if path.name in ("", ".."):  # a folder: ".", "/"
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    ending = f".tmp-{os.getpid()}"
    start = os.fsencode(f".{path.name}")[: MOST_NAME_BYTES - len(ending)]
    return path.with_name(os.fsdecode(start) + ending)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; stray bytes of a file name, which UTF-8 cannot hold, are
    escaped (``\\udcff``).
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def make_folder(path: Path) -> None:
    with refused_as_write_error(path):
        path.mkdir(parents=True, exist_ok=True)


def check_folder(path: Path) -> None:
    """Check before long work that its files can be written into ``path``, which need not exist yet;
    nothing is left behind.

    Raises:
        WriteError: the system refuses.
    """
    with refused_as_write_error(path):
        _try_folder(path)


def check_file(path: Path) -> None:
    """Check before long work that the file ``path`` can be written, and its folder made.

    Raises:
        WriteError: the system refuses.
    """
    with refused_as_write_error(path):
        temporary_path(path)  # refuses names that only folders have
        there = _entry(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        _try_folder(path.parent)


def _try_folder(path: Path) -> None:
    place = path.absolute()
    while _entry(place) is None:
        place = place.parent
    if not place.is_dir():  # or a link to one
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
    # Not tempfile, which tries other names when the first is refused.
    tried = temporary_path(place / "tried")
    try:
        tried.touch()
    finally:
        tried.unlink(missing_ok=True)


def _entry(path: Path) -> os.stat_result | None:
    """What exists under this name, a link itself included; None if nothing does."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat()
    return None


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def refused_as_write_error(path: Path) -> Iterator[None]:
    """Turn any refusal of the disk in the block into a WriteError that names ``path``."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, SafetensorError) as error:
        raise WriteError(refusal(path, error)) from error


def refusal(path: Path, error: BaseException) -> str:
    """One sentence: the file, why it could not be written, and what to do."""
    why = reason(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in WRONG_PLACE:
        return f"{path}: {why}; give a place that can be written"
    if number == errno.ENAMETOOLONG:
        return f"{path}: {why}; give a shorter name"
    remedy = "check the disk"
    if why in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)):
        remedy = "free some space"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            remedy += f" ({in_mib(free)} are free)"
    return f"{path}: cannot be written ({why}); {remedy}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    return file_digest(path, "sha256")


def file_digest(path: Path, algorithm: str) -> str:
    """A checksum of a file, hexadecimal, by a name that ``hashlib`` knows."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def in_mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"


def reason(error: BaseException) -> str:
    """Why the disk refused, in the system's words.

    ``torch.save`` and ``safetensors`` report a failed write in words of their own; the system's are
    in the exceptions that caused theirs, or in the text.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    match = re.search(r"(?:.*: )?(.+?) \(os error \d+\)", str(error))
    return match[1] if match else " ".join(str(error).split()) or type(error).__name__


def remove_leftovers(folder: Path, *, locked: bool = False) -> None:
    """Remove the half-written files that killed processes have left in ``folder``.

    Args:
        folder: it need not exist.
        locked: nobody else writes there; otherwise the files of living processes are kept.
    """
    for path in folder.glob(".*"):
        match = re.fullmatch(r"\..+\.(?:tmp|old)-(\d+)", path.name)
        # The temporary files of safetensors, which carry no process number.
        is_over = locked and re.fullmatch(r"\.tmp[A-Za-z0-9]{6}", path.name)
        if not is_over and not (match and (locked or _is_over(int(match[1])))):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _is_over(pid: int) -> bool:
    """Whether no other process with this number runs; ours has nothing half written yet."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
