"""Downloads from a server on this machine: broken off, continued, mirrored, wrong."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcn_train.console import Console
from fcn_train.data import download as module
from fcn_train.data.download import Download, download
from fcn_train.errors import UsageError, WriteError
from fcn_train.files import sha256
from tests.train.serving import Server, serving

CONTENT = bytes(range(256)) * 12_000  # three pieces


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/good/set.tar": CONTENT}) as here:
        yield here


def item(server: Server, *places: str, content: bytes = CONTENT) -> Download:
    urls = tuple(f"{server.address}/{place}" for place in places or ("good/set.tar",))
    return Download(urls, hashlib.md5(content, usedforsecurity=False).hexdigest())


def quiet() -> Console:
    return Console(io.StringIO(), plain=True)


def test_a_file_arrives_whole_and_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        path = download(item(server), tmp_path / "new", quiet())
        assert path.read_bytes() == CONTENT
        assert [found.name for found in path.parent.iterdir()] == ["set.tar"]
    assert server.requests == [("/good/set.tar", "")]


def test_a_broken_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.break_after = [1_500_000, 1_000_000]
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT
    starts = [wanted for _, wanted in server.requests]
    assert starts[0] == ""
    assert len(starts) == 3
    assert all(wanted.startswith("bytes=") for wanted in starts[1:])


def test_an_answer_that_ends_early_is_continued(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checksum, and under a urllib3 that does not compare lengths, as before 2.0."""
    import urllib3

    whole = urllib3.HTTPResponse.__init__

    def lenient(self: object, *arguments: object, **options: object) -> None:
        whole(self, *arguments, **options | {"enforce_content_length": False})  # type: ignore[arg-type]

    monkeypatch.setattr(urllib3.HTTPResponse, "__init__", lenient)
    server.break_after = [1_500_000, 1_000_000]
    urls = (f"{server.address}/good/set.tar",)
    assert download(Download(urls), tmp_path, quiet()).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_later_call_continues_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT[:2_000_001])
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT
    assert server.requests == [("/good/set.tar", "bytes=2000001-")]
    (tmp_path / "set.tar").rename(tmp_path / "set.tar.part")  # broken off at the very end
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT


def test_a_server_that_cannot_continue_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.tar.part").write_bytes(b"x" * 2_000_001)
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [10, len(CONTENT), len(CONTENT) + 7])
def test_what_arrived_of_another_file_is_thrown_away(
    server: Server, tmp_path: Path, size: int
) -> None:
    (tmp_path / "set.tar.part").write_bytes(b"x" * size)
    if size > len(CONTENT):
        with pytest.raises(UsageError, match="has another file than was begun"):
            download(item(server), tmp_path, quiet())
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT


def test_the_first_address_that_gives_the_file_is_taken(server: Server, tmp_path: Path) -> None:
    server.files["/wrong/set.tar"] = CONTENT[:-1] + b"x"
    wanted = item(server, "absent/set.tar", "wrong/set.tar", "good/set.tar")
    path = download(wanted, tmp_path, quiet(), mirrors=[f"{server.address}/mine/"])
    assert path.read_bytes() == CONTENT
    places = [place for place, _ in server.requests]
    assert places == ["/mine/set.tar", "/absent/set.tar", "/wrong/set.tar", "/good/set.tar"]


def test_every_address_is_named_where_all_fail(server: Server, tmp_path: Path) -> None:
    server.files["/wrong/set.tar"] = b"other"
    wanted = item(server, "absent/set.tar", "wrong/set.tar")
    with serving({}) as dead:
        pass
    with pytest.raises(UsageError) as caught:
        download(wanted, tmp_path / "new" / "set", quiet(), mirrors=[dead.address])
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(
        f"{tmp_path / 'new' / 'set' / 'set.tar'}: cannot be downloaded: {dead.address}/set.tar ("
    )
    assert "absent/set.tar (answers 404 Not Found)" in text
    other = hashlib.md5(b"other", usedforsecurity=False).hexdigest()
    assert f"wrong/set.tar (md5 {other}, not {wanted.md5} as published)" in text
    assert text.endswith("try again, give a --mirror, or put the file there yourself")
    assert [*tmp_path.iterdir()] == []


def test_a_web_page_in_its_place_is_told(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UsageError, match=r"set\.tar \(answers with a web page\)"):
        download(item(server), tmp_path, quiet())


def test_without_a_published_checksum_its_own_is_told(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = download(Download((f"{server.address}/good/set.tar",)), tmp_path, quiet())
    assert f"sha256 {hashlib.sha256(CONTENT).hexdigest()}" in capsys.readouterr().err
    assert sha256(path) == hashlib.sha256(CONTENT).hexdigest()


def test_a_file_of_another_checksum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(b"cut off")
    assert download(item(server), tmp_path, quiet()).read_bytes() == CONTENT


def test_space_is_looked_for_beforehand(server: Server, tmp_path: Path) -> None:
    large = Download((f"{server.address}/good/set.tar",), size=2**60)
    with pytest.raises(UsageError, match=r"set\.tar: takes .* MiB and .* MiB are free; free some"):
        download(large, tmp_path, quiet())
    assert server.requests == []


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/new"):
        download(item(server), tmp_path / "file" / "new", quiet())
    (tmp_path / "set.tar.part").mkdir()
    with pytest.raises(WriteError, match=r"set\.tar\.part: Is a directory"):
        download(item(server), tmp_path, quiet())


def test_without_requests_it_says_what_to_install(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(UsageError, match="needs requests; install it: pip install requests"):
        download(item(server), tmp_path, quiet())


def test_progress_is_told_in_mebibytes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", 500)
    monkeypatch.setattr(module, "_MIB", 1000)
    monkeypatch.setattr("fcn_train.console.PLAIN_SECONDS", 0.0)
    server.files["/good/set.tar"] = CONTENT[:10_000]
    stream = io.StringIO()
    download(item(server, content=CONTENT[:10_000]), tmp_path, Console(stream, plain=True))
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("set.tar (MiB) 1/10 ")
    assert lines[-1].startswith("set.tar (MiB) 10/10 ")
