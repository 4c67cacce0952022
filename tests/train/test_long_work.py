"""Searches of folders tell that they go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fcn_train import long_work
from fcn_train.data import images
from fcn_train.long_work import LongWork, told

Command = Callable[..., tuple[int, str, str]]


def test_told_after_some_seconds_and_then_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(long_work.time, "monotonic", lambda: now)
    lines: list[str] = []
    work = LongWork("a: looking for files")
    with told(lines.append):
        for second in range(40):
            now = 100.0 + second
            work.found(1000 * second)
    work.found(99)
    assert lines == [f"a: looking for files, {n:,} so far" for n in (5000, 20000, 35000)]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Images that lie below a folder, and in none of it."""
    for number in range(3):
        place = tmp_path / "many" / "images" / "below" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place)
    (tmp_path / "many" / "labels").mkdir()
    (tmp_path / "many" / "classes.txt").write_text("a\nb\n")
    return tmp_path / "many"


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "check", "--kind", "folder", "--root", "ROOT", "--split", ""),
        ("data", "hha", "--depth", "ROOT", "--output", "OUT"),
        ("predict", "RUN", "ROOT", "--output", "OUT"),
        ("train", "--data.kind", "folder", "--data.root", "ROOT", "--data.train-split", ""),
    ],
)
def test_every_search_is_told(
    arguments: tuple[str, ...],
    many: Path,
    finished_run: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_work, "FIRST_SECONDS", 0.0)
    places = {"ROOT": many, "OUT": tmp_path / "out", "RUN": finished_run}
    _, out, _ = command(*(places.get(word, word) for word in arguments))
    assert ": looking for files, 0 so far\n" in out


def test_a_folder_that_is_left_out_is_searched_to_its_first_image(
    many: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    walk = images.walk

    def watched(folder: Path) -> object:
        for path in walk(folder):
            seen.append(path)
            yield path

    monkeypatch.setattr("fcn_train.data.stems.walk", watched)
    code, _, err = command(*("data", "stats", "--kind", "folder", "--root", many, "--split", ""))
    assert code == 2
    assert "holds images that are not right in" in err
    assert len(seen) == 1
