"""Files that are whole or absent, and what is said when the disk refuses one."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from fcn_train.errors import WriteError
from fcn_train.files import (
    atomic_path,
    check_file,
    check_folder,
    make_folder,
    reason,
    refusal,
    remove_leftovers,
    temporary_path,
    write_text,
)

Disk = Any  # the fixture of conftest.py


def test_atomic_file_is_replaced_whole_or_not_at_all(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with contextlib.suppress(ValueError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    disk.operations.clear()
    write_text(path, "first")
    for number in range(1, len(disk.operations) + 1):
        disk.fail_at(number)
        with pytest.raises(WriteError, match=r"file.txt: cannot be written \(No space left"):
            write_text(path, "second")
        assert path.read_text() == ("first" if number < 4 else "second")
        assert list(tmp_path.iterdir()) == [path]
    disk.work()
    write_text(path, "second")
    assert path.read_text() == "second"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_reason_is_the_systems_own_however_it_is_raised(number: int) -> None:
    words = os.strerror(number)
    assert reason(OSError(number, words)) == words
    assert reason(SafetensorError(f"Error: I/O error: {words} (os error {number})")) == words
    later = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    later.__context__ = OSError(number, words)
    assert reason(later) == words
    assert reason(RuntimeError("of its\nown")) == "of its own"
    assert reason(RuntimeError()) == "RuntimeError"


def test_torch_on_a_full_disk_says_so() -> None:
    """Given a file and not a name, its exceptions lead back to the system's."""

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises((OSError, RuntimeError)) as caught:
        torch.save({"a": torch.zeros(100_000)}, Full())
    assert reason(caught.value) == "No space left on device"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), r"written \(No space .*MiB are free\)"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), r"written \(Input/output error\); check the"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied; give a place that"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system; give a place"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "free some space"),
    ],
)
def test_refusal_names_file_reason_and_remedy(error: Exception, said: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "a.png", error)
    assert text.startswith(f"{tmp_path / 'a.png'}: ")
    assert "\n" not in text
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(text)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/run: Not a directory; give a place"):
        make_folder(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["a" * 255, "\u9ed2" * 85, "\udcef" * 255, "a" * 240 + ".png"])
def test_names_as_long_as_a_name_can_be(name: str, tmp_path: Path) -> None:
    """Though a temporary one would be longer."""
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    temporary = temporary_path(tmp_path / name)
    temporary.touch()
    remove_leftovers(tmp_path)
    assert not temporary.exists()


@pytest.mark.parametrize("name", ["a" * 256, "\u9ed2" * 86])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="File name too long; give a shorter name"):
        write_text(tmp_path / name, "text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [".", "/", "..", "folder"])
def test_folders_are_no_files(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(WriteError, match="; give a place that can be written"):
        write_text(Path(path), "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "folder"]


def test_text_beyond_utf8_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "na\udcefve \u9ed2\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "na\\udcefve \u9ed2\n"


def test_leftovers_of_ended_processes_are_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ended = [f".best.safetensors.tmp-{process.pid}", f".step-000004.old-{process.pid}"]
    ended += [f".a.png.tmp-{os.getpid()}", f".x.tmp-{2**70}"]
    alive = [f".last.safetensors.tmp-{os.getppid()}"]
    alive += [".tmpA1b2C3"]  # of safetensors, in the folder of whoever holds its lock
    kept = [".hidden", "a.tmp-1", ".a.tmp-x", ".lock", "step-000004", ".tmp-a"]
    for name in (*ended, *alive, *kept):
        (tmp_path / name).mkdir() if ".step" in name else (tmp_path / name).touch()
    (tmp_path / ended[1] / "weights.safetensors").touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*alive, *kept}
    remove_leftovers(tmp_path, locked=True)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    remove_leftovers(tmp_path / "absent")


def test_a_folder_is_tried_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for path in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep" / "report"):
        check_folder(path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}
    refused = [tmp_path / "file", tmp_path / "file" / "deep", tmp_path / "link"]
    for path in (*refused, tmp_path / ("x" * 300), Path("/proc/absent/report")):
        with pytest.raises(WriteError, match=re.escape(f"{path}: ")):
            check_folder(path)


def test_a_file_is_tried_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    for name, leads in (("link", "absent"), ("circle", "circle"), ("to-folder", "folder")):
        (tmp_path / name).symlink_to(leads)
    before = sorted(tmp_path.rglob("*"))
    # A link is replaced as a file is.
    for name in ("file", "new", "new/deep", "folder/new", "link", "circle", "to-folder/new"):
        check_file(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "kept"
    refused = [tmp_path / name for name in ("folder", "file/new", "link/new", "circle/new")]
    for path in (*refused, tmp_path / ("x" * 300), Path("/proc/absent/a"), Path("/"), Path("..")):
        with pytest.raises(WriteError, match=re.escape(f"{path}: ")):
            check_file(path)
