"""Links that lead in a circle are told in one line, wherever they are given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcn_train
from fcn_train.real_paths import real_path

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def circle(in_folder: Path) -> Path:
    path = Path("circle")
    path.symlink_to("other")
    Path("other").symlink_to("circle")
    return path


def test_links_are_followed_to_their_end(circle: Path, in_folder: Path) -> None:
    (in_folder / "link").symlink_to("folder")
    assert real_path(Path("link/a/../b")) == (in_folder / "folder" / "b").resolve()
    assert real_path(circle).is_absolute()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "RUN", "IMAGES", "--output", "circle"), "circle: File exists; give a place"),
        (("predict", "RUN", "circle", "--output", "out"), "circle: is missing; give image files"),
        (("predict", "circle", "IMAGES", "--output", "out"), "circle: cannot be read ("),
        (("evaluate", "RUN", "--output", "circle"), "circle: File exists; give a place"),
        (("evaluate", "circle"), "circle: cannot be read ("),
        (("compare", "circle", "RUN"), "circle: cannot be read ("),
        (("train", "--output", "circle", "--data.root", "DATA"), "circle: File exists; give"),
        (("train", "--resume", "RUN", "--output", "circle"), "--output circle has no effect with"),
        (("train", "--data.kind", "voc", "--data.root", "circle"), "circle"),
        (("data", "hha", "--depth", "depth", "--output", "circle"), "circle: File exists; give"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("circle")
def test_commands_name_it(
    arguments: tuple[str, ...],
    said: str,
    varied_run: Path,
    sample_root: Path,
    command: Command,
) -> None:
    given = {"RUN": varied_run, "IMAGES": sample_root / "JPEGImages", "DATA": sample_root}
    if "hha" in arguments:
        Path("depth").mkdir()
        Image.fromarray(np.full((48, 48), 2000, dtype=np.uint16)).save("depth/a.png")
        arguments = (*arguments, "--camera", "50", "50", "24", "24")
    code, _, err = command(*(given.get(each, each) for each in arguments))
    assert code in (1, 2)
    assert f"fcn: {said}" in err
    assert "Traceback" not in err


def test_a_list_that_is_one(
    circle: Path, sample_root: Path, command: Command, in_folder: Path
) -> None:
    root = shutil.copytree(sample_root, in_folder / "data")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").unlink()
    (lists / "train.txt").symlink_to("train.txt")
    code, out, err = command("data", "check", "--kind", "voc", "--root", root)
    assert code == 1
    assert "train.txt: " in out
    assert "Too many levels of symbolic links" in out
    assert "Traceback" not in err


def test_nothing_else_asks_where_a_path_leads() -> None:
    """``Path.resolve`` raises RuntimeError for a circle before Python 3.13."""
    files = Path(fcn_train.__file__).parent.rglob("*.py")
    assert [path.name for path in files if ".resolve()" in path.read_text("utf-8")] == []
