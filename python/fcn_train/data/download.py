"""Downloads that can be continued, from the first address that has the file."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_train.errors import UsageError
from fcn_train.files import (
    file_digest,
    in_mib,
    make_folder,
    refused_as_write_error,
    sha256,
    sync_folder,
)

if TYPE_CHECKING:
    from fcn_train.console import Console

__all__ = ["Download", "download"]

_PIECE, _MIB = 2**16, 2**20
_ATTEMPTS = 5  # at one address, as long as each receives something
_TIMEOUT = (15, 60)  # seconds to connect, and between two pieces


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        urls: its addresses, tried in this order; the last part of the first is the file's name.
        md5: hexadecimal, "" where none was published.
        size: roughly the size of the file in bytes, for the check of free space beforehand.
    """

    urls: tuple[str, ...]
    md5: str = ""
    size: int = 0

    @property
    def name(self) -> str:
        return self.urls[0].rsplit("/", 1)[-1]


def download(item: Download, folder: Path, console: Console, mirrors: Sequence[str] = ()) -> Path:
    """Fetch a file, unless it is there already.

    A partial download is kept in `NAME.part` and continued by the next call. A file with a wrong
    checksum is removed.

    Args:
        item: the file to fetch.
        folder: where to put it.
        console: shows the progress, and the checksum if none was published.
        mirrors: addresses of folders to try first.

    Returns:
        The path of the file.

    Raises:
        UsageError: no address has the file, its checksum is wrong everywhere, the disk lacks space,
            or requests is not installed.
        WriteError: the disk refused.

    Example:
        >>> item = Download(("https://example.org/set.tar",))
        >>> item.name
        'set.tar'
        >>> download(item, Path("data"), Console())  # doctest: +SKIP
        PosixPath('data/set.tar')
    """
    target = folder / item.name
    if target.is_file() and (not item.md5 or file_digest(target, "md5") == item.md5):
        return target
    lacking = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    part = target.with_name(f"{target.name}.part")
    free = shutil.disk_usage(folder).free
    have = _size(part)
    if item.size - have > free:
        raise UsageError(
            f"{target}: takes {in_mib(item.size - have)} and {in_mib(free)} are free; free some "
            "space or give another --root"
        )
    reasons = []
    for url in [*(f"{mirror.rstrip('/')}/{item.name}" for mirror in mirrors), *item.urls]:
        why = _complete(url, item, part, console)
        if why:
            reasons.append(f"{url} ({why})")
            continue
        with refused_as_write_error(target):
            os.replace(part, target)
            sync_folder(folder)
        if not item.md5:
            found = sha256(target)
            console.warn(f"{target}: no checksum was published to compare with; sha256 {found}")
        return target
    with contextlib.suppress(OSError):  # folders that are not empty
        for each in lacking:
            each.rmdir()
    kept = f"; {in_mib(part.stat().st_size)} are kept and continued" if part.is_file() else ""
    raise UsageError(
        f"{target}: cannot be downloaded: {'; '.join(reasons)}{kept}; try again, give a --mirror, "
        "or put the file there yourself"
    )


class _FailedError(Exception):
    """An address did not give the file; the text says why."""


def _complete(url: str, item: Download, part: Path, console: Console) -> str:
    """Complete `part`; returns why that failed, "" if it did not."""
    attempts = _ATTEMPTS
    while True:
        before = _size(part)
        try:
            _fetch(url, part, console)
        except _FailedError as error:
            attempts -= 1
            if attempts and _size(part) > before:
                continue  # the connection broke; the next one continues
            return str(error)
        found = file_digest(part, "md5") if item.md5 else ""
        if found == item.md5:
            return ""
        part.unlink()
        if not before:
            return f"md5 {found}, not {item.md5} as published"
        # The part may have been another file's.


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _fetch(url: str, part: Path, console: Console) -> None:
    """Append the rest of the file to `part`, or start again if the server cannot continue."""
    requests = _requests()
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if have and response.status_code == 416:  # nothing follows: it is whole, or is another
                if _length(response.headers.get("Content-Range", ""), "*/") == have:
                    return
                part.unlink()
                raise _FailedError("has another file than was begun")
            if response.status_code not in (200, 206):
                raise _FailedError(f"answers {response.status_code} {response.reason}".strip())
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _FailedError("answers with a web page")
            if response.status_code == 200 or not _continues(response, have):
                have = 0
            length = int(response.headers.get("Content-Length") or 0)
            _append(response, part, have, length, console)
            # urllib3 before 2.0 accepts an answer that ends early. An answer that is compressed
            # although that was not asked for has another length.
            compressed = response.headers.get("Content-Encoding", "identity") != "identity"
            if _size(part) < have + length and not compressed:
                raise _FailedError("broken off")
    except requests.RequestException as error:
        raise _FailedError(_in_short(error)) from error


def _append(response: Any, part: Path, have: int, length: int, console: Console) -> None:
    total = math.ceil((have + length) / _MIB)
    began, seen = have // _MIB, have // _MIB
    with refused_as_write_error(part):
        file = part.open("r+b" if have else "wb")
    with file, console.progress(f"{part.stem} (MiB)", total, began) as advance:
        file.truncate(have)
        file.seek(have)
        for piece in response.iter_content(_PIECE):
            with refused_as_write_error(part):
                file.write(piece)
            have += len(piece)
            advance(have // _MIB - seen)
            seen = have // _MIB
        with refused_as_write_error(part):
            os.fsync(file.fileno())


def _continues(response: Any, have: int) -> bool:
    """Whether a partial answer begins where the file ends."""
    return bool(response.headers.get("Content-Range", "").startswith(f"bytes {have}-"))


def _length(text: str, after: str) -> int | None:
    with contextlib.suppress(ValueError):
        return int(text.partition(after)[2])
    return None


def _in_short(error: BaseException) -> str:
    """The innermost reason of a network error."""
    text = type(error).__name__
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return {
        "ConnectionError": "no connection",
        "ChunkedEncodingError": "broken off",
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
    }.get(text, text)


def _requests() -> Any:
    try:
        import requests
    except ImportError:
        raise UsageError("fcn data get needs requests; install it: pip install requests") from None
    return requests
