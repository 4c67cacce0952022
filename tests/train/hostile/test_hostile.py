"""Every hostile file ends in one line that names it, or is read: no traceback, crash or hang, in
memory that is bounded. ``FCN_LONG_TESTS=1`` damages each file some hundred times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("h5py")
pytest.importorskip("scipy")

from . import files, readers
from .files import Case

IS_LONG = os.environ.get("FCN_LONG_TESTS", "") not in ("", "0")
CUTS, FLIPS = (60, 400) if IS_LONG else (6, 14)
MEGABYTES = 400


def endings(cases: list[Case]) -> Iterator[tuple[Case, str, str]]:
    """How each case ends; where the process does, with it, another goes on."""
    start = 0
    while start < len(cases):
        done = subprocess.run(
            [sys.executable, readers.__file__, str(MEGABYTES)],
            input=json.dumps([(reader, str(path)) for reader, path in cases[start:]]),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for case, (how, text) in zip(cases[start:], lines[1::2], strict=False):
            yield case, how, text
        ended = len(lines) // 2
        if done.returncode == 0:
            assert ended == len(cases) - start
            return
        assert len(lines) == 2 * ended + 1, done.stderr
        how = f"the process ends with {done.returncode}: {done.stderr[-600:]}"
        yield cases[start + ended], "fault", how
        start += ended + 1


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Case, str, str]]]:
    """How all files end, by kind; in one process, whose start takes longest."""
    folder = tmp_path_factory.mktemp("hostile")
    contents = files.pictures() | files.matlab()
    contents["hdf5.mat"] = files.hdf5(folder / "whole.mat")
    kinds: dict[str, list[Case]] = {"damaged": []}
    for name, content in contents.items():
        kinds["damaged"] += files.damaged(folder, name, content, CUTS, FLIPS)
    kinds["bombs"] = [*files.bombs(folder), *files.matlab_bombs(folder)]
    kinds["lists"] = list(files.lists(folder))
    (folder / "plain.txt").write_text("a")
    planted = ["wrong", "list", "crash"]  # at last, as the process ends with it
    kinds["planted"] = [(reader, folder / "plain.txt") for reader in planted]
    every = [case for cases in kinds.values() for case in cases]
    ended = iter(list(endings(every)))
    return {kind: [next(ended) for _ in cases] for kind, cases in kinds.items()}


@pytest.mark.parametrize("kind", ["damaged", "bombs", "lists"])
def test_hostile_files_are_read_or_named(
    kind: str, found: dict[str, list[tuple[Case, str, str]]]
) -> None:
    faults = [
        f"{reader} {path.name}: {text[:600]}"
        for (reader, path), how, text in found[kind]
        if how == "fault"
    ]
    assert not faults, "\n".join(faults)
    refused = [how == "refused" for _, how, _ in found[kind]]
    assert sum(refused) > len(refused) // 2


def test_faults_are_found(found: dict[str, list[tuple[Case, str, str]]]) -> None:
    """A file that is read wrongly, and one that ends the process."""
    (_, wrong, what), (_, read, _), (_, crash, how) = found["planted"]
    assert (wrong, read, crash) == ("fault", "read", "fault")
    assert what.startswith("ZeroDivisionError")
    assert "ends with -11" in how
