"""Paths on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train.path_options import expand_homes

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--output=~/run", "--output=/home/me/run"),
        ("--data.root=~", "--data.root=/home/me"),
        ("--data.label-colors=~/a b", "--data.label-colors=/home/me/a b"),
        ("--output", "--output"),
        ("~/run", "~/run"),  # as it was quoted
        ("--output=a~/b", "--output=a~/b"),
        ("--output=~me", "--output=~me"),
        ("--output=./~", "--output=./~"),
        ("--", "--"),
    ],
)
def test_home_after_an_equals_sign(given: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_homes(["train", given]) == ["train", read]


def test_no_folder_is_called_home(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    few = ("--train", "2", "--val", "1", "--size", "32")
    assert command("data", "sample", "--root=~/data", *few)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    code, _, err = command("train", "--resume=~/run")
    assert (code, err.startswith(f"fcn: {tmp_path}/home/run: is no run folder")) == (2, True)
