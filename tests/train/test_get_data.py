"""`fcn data get` from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fcn_train.data import sources, write_sample_dataset
from fcn_train.data.download import Download
from fcn_train.data.kinds import KINDS
from fcn_train.data.sources import BY_HAND, SOURCES, Source
from tests.train.serving import Server, serving

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({}) as here:
        yield here


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A set of an archive and a list, as SIFT Flow's."""
    sizes = {"train": 3, "val": 2, "size": 32}
    root = write_sample_dataset(tmp_path / "published", layout="sift-flow", **sizes)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("Images", "SemanticLabels", "GeoLabels"):
            tar.add(root / name, f"SiftFlowDataset/{name}")
    contents = {"set.tar.gz": packed.getvalue()}
    for name in ("trainval.txt", "test.txt"):
        contents[name] = (root / name).read_bytes()
    server.files = {f"/{name}": content for name, content in contents.items()}

    def item(name: str) -> Download:
        md5 = hashlib.md5(contents[name], usedforsecurity=False).hexdigest()
        return Download((f"{server.address}/{name}",), md5)

    source = Source(
        "sift-flow",
        (item("set.tar.gz"),),
        (item("trainval.txt"), item("test.txt")),
        unpacked=1_000_000,
    )
    monkeypatch.setitem(sources.SOURCES, "sift-flow", source)
    return source


def test_a_set_is_fetched_unpacked_and_read(
    published: Source, server: Server, command: Command, in_folder: Path
) -> None:
    code, out, err = command("data", "get", "sift-flow")
    assert (code, err) == (0, "")
    told = "fcn data check --kind sift-flow --root data/sift-flow"
    assert out.splitlines()[-1] == f"data/sift-flow: ready; look it through with: {told}"
    code, out, _ = command(*told.split()[1:])
    assert (code, "SIFT Flow, trainval: 3 pairs, 0 problems" in out) == (0, True)
    assert not (in_folder / "data" / "sift-flow" / "set.tar.gz").exists()
    asked = len(server.requests)
    assert command("data", "get", "sift-flow")[0] == 0
    assert len(server.requests) == asked  # all is there


def test_archives_can_be_kept(published: Source, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "here"
    assert command("data", "get", "sift-flow", "--root", root, "--keep")[0] == 0
    assert (root / "set.tar.gz").is_file()


def test_mirrors_are_asked_first(published: Source, command: Command, tmp_path: Path) -> None:
    with serving({}) as mirror:
        flags = ("--root", tmp_path / "here", "--mirror", f"{mirror.address}/copies")
        assert command("data", "get", "sift-flow", *flags)[0] == 0
    names = ("trainval.txt", "test.txt", "set.tar.gz")
    assert [path for path, _ in mirror.requests] == [f"/copies/{name}" for name in names]


def test_a_hostile_archive_leaves_nothing(
    published: Source,
    server: Server,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    server.files["/set.tar.gz"] = packed.getvalue()
    hostile = Download((f"{server.address}/set.tar.gz",))
    monkeypatch.setitem(sources.SOURCES, "sift-flow", Source("sift-flow", (hostile,), unpacked=9))
    code, _, err = command("data", "get", "sift-flow", "--root", tmp_path / "here")
    assert code == 2
    assert "set.tar.gz: holds '../evil', which leads out of the folder" in err
    assert not (tmp_path / "evil").exists()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["set.tar.gz"]


def test_an_interrupted_download_says_that_it_is_kept(
    published: Source, server: Server, command: Command, tmp_path: Path
) -> None:
    archive = server.files["/set.tar.gz"]
    server.files["/set.tar.gz"] = archive + bytes(200_000)
    server.break_after = [10**9, 10**9, 100_000, 0]  # the lists, then twice the archive
    code, _, err = command("data", "get", "sift-flow", "--root", tmp_path / "here")
    assert (code, err.count("\n")) == (2, 1)
    assert "are kept and continued; try again, give a --mirror" in err
    server.files["/set.tar.gz"] = archive
    assert (tmp_path / "here" / "set.tar.gz.part").is_file()


@pytest.mark.parametrize("mirror", ["", "copies", "file:///etc", "ftp://example.org", "https://"])
def test_mirrors_that_are_no_address(mirror: str, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "new"
    code, _, err = command("data", "get", "voc2012", "--root", root, "--mirror", mirror)
    assert (code, err) == (2, f"fcn: --mirror must be an address, https://..., got {mirror!r}\n")
    assert not root.exists()


def test_names_that_are_none_are_answered(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "get", "cityscapes", "--root", tmp_path)
    assert code == 2
    assert err.startswith("fcn: cityscapes: needs an account at https://www.cityscapes-dataset.com")
    code, _, err = command("data", "get", "coco", "--root", tmp_path)
    assert code == 2
    assert err.startswith("fcn: NAME must be one of voc2012, ")
    assert err.endswith("cityscapes, got 'coco'\n")


def test_the_table_is_sound(command: Command) -> None:
    for name, source in SOURCES.items():
        assert source.kind in KINDS
        assert source.archives or source.files, name
        assert bool(source.archives) == bool(source.unpacked), name
        for item in (*source.archives, *source.files):
            assert all(url.startswith(("http://", "https://")) for url in item.urls)
            assert len({url.rsplit("/", 1)[-1] for url in item.urls}) == 1
            assert len(item.md5) in (0, 32)
    assert not set(SOURCES) & set(BY_HAND)
    told = command("data", "get", "--help")[1]
    assert [name for name in SOURCES if name not in told] == []


def test_checksums_are_those_of_the_published_files(shared_data: Path) -> None:
    known: dict[str, Any] = {
        path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for folder in ("fcn_lists/data/pascal", "nyuv2_meta")
        for path in (shared_data / folder).iterdir()
    }
    checked = 0
    for source in SOURCES.values():
        for item in source.files:
            if item.name in known:
                assert item.md5 == known[item.name]
                checked += 1
    assert checked == 3
    for name in ("nyud", "sift-flow"):
        for item in SOURCES[name].files:
            content = (shared_data / "fcn_lists" / "data" / name / item.name).read_bytes()
            assert item.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
