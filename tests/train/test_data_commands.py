"""`fcn data sample`, `fcn data check`, `fcn data stats` as the shell sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., tuple[int, str, str]]


def test_sample_then_check_then_stats(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "sample"
    flags = ("--train", "3", "--val", "2", "--size", "40")
    assert command("data", "sample", "--root", root, *flags)[0] == 0

    code, out, _ = command("data", "check", "--kind", "sample", "--root", root)
    assert code == 0
    assert out.splitlines() == [
        "sample, train: 3 pairs, 0 problems",
        "sample, val: 2 pairs, 0 problems",
    ]

    output = tmp_path / "stats.json"
    code, out, _ = command("data", "stats", "--kind", "sample", "--root", root, "--output", output)
    assert code == 0
    assert "sample, train: 3 images" in out
    values = json.loads(output.read_text())
    assert values["num_images"] == 3
    assert len(values["classes"]) == 21


def test_check_names_every_problem_once(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "sample"
    flags = ("--train", "3", "--val", "2", "--size", "40")
    command("data", "sample", "--root", root, *flags)
    images = sorted((root / "JPEGImages").glob("train*"))
    images[0].unlink()
    images[1].write_bytes(b"nothing")
    code, out, _ = command(
        *("data", "check", "--kind", "voc", "--root", root, "--split", "train", "trainval", "tset")
    )
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith(f"{images[0]}: image is missing")
    assert lines[1].startswith(f"{images[1]}: image cannot be decoded")
    assert lines[2].endswith("train: 3 pairs, 2 problems")
    assert lines[3].endswith("trainval: 5 pairs, 2 problems")
    assert "tset.txt" in lines[4]


def test_sample_refuses_what_it_cannot_draw(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "sample", "--root", tmp_path / "s", "--size", "8")
    assert code == 2
    assert err == "fcn: --size must be in 32..4096, got 8\n"
    (tmp_path / "precious.txt").write_text("")
    code, _, err = command("data", "sample", "--root", tmp_path)
    assert code == 2
    assert "is not a sample data set" in err
