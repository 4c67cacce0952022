"""Files of text that users name: in another encoding, without an end, or in the place of a run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train import text_files
from fcn_train.class_weights import weights_from_file
from fcn_train.classify import class_names
from fcn_train.classify_options import ClassifyOptions
from fcn_train.config import read_json
from fcn_train.data import DataError
from fcn_train.data.lists import read_lines
from fcn_train.errors import UsageError
from fcn_train.text_files import read_text

from .running import assert_one_line

Command = Callable[..., tuple[int, str, str]]
READERS: dict[str, Callable[[Path], object]] = {
    "list": lambda path: read_lines(path, "list of image names"),
    "json": lambda path: read_json(path, "give a run folder"),
    "weights": lambda path: weights_from_file(path, 2),
    "names": lambda path: class_names(ClassifyOptions(images=(path,), weights=path, names=path), 2),
}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
@pytest.mark.parametrize("reader", READERS)
def test_other_encodings_are_told_from_no_text(reader: str, encoding: str, tmp_path: Path) -> None:
    """As Windows' "Unicode" is."""
    path = tmp_path / "file.txt"
    path.write_text('{"caf\u00e9": 1}', encoding)
    with pytest.raises((UsageError, DataError)) as raised:
        READERS[reader](path)
    said = str(raised.value)
    assert said.startswith(f"{path}: ")
    assert "it is no text in UTF-8); save " in said
    assert "codec" not in said


@pytest.mark.parametrize("reader", READERS)
def test_files_without_an_end(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LARGEST", 1000)
    with pytest.raises((UsageError, DataError)) as raised:
        READERS[reader](Path("/dev/zero"))
    assert str(raised.value).startswith("/dev/zero: ")


def test_pipes_are_read_where_they_may_be(tmp_path: Path) -> None:
    """As a shell's <(...) is, for what is read once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="it is no file but a device or a pipe"):
        read_text(pipe, pipes=False)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"\xef\xbb\xbfa\r\nb\rc\n",))
    writer.start()
    assert read_text(pipe) == "a\nb\nc\n"
    writer.join()


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "FILE"),
        ("export", "FILE"),
        ("serve", "FILE"),
        ("compare", "FILE", "RUN", "--output", "c.html"),
        ("train", "--init-coarser", "FILE", "--data.root", "DATA", "--output", "new"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "last.safetensors", "metrics.json"])
def test_a_file_in_the_place_of_a_run(
    words: tuple[str, ...],
    name: str,
    finished_run: Path,
    sample_root: Path,
    command: Command,
    in_folder: Path,
) -> None:
    """Also one of a run's own files, whose config.json would be read as options."""
    file = finished_run / name
    places = {"FILE": file, "RUN": finished_run, "DATA": sample_root}
    given = [str(places.get(word, word)) for word in words]
    assert_one_line(command(*given), f"fcn: {file}: is a file; give the folder of a run")
    assert not (in_folder / "new").exists()
