"""`fcn data sample`, `check`, `stats` and `hha` as the shell sees them."""

from __future__ import annotations

import io
import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.console import Console
from fcn_train.data.sample_layouts import LAYOUTS
from fcn_train.data_commands import check_data
from fcn_train.data_options import CheckOptions

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
    header, first = out.splitlines()[-22:-20]
    assert header.split() == ["class", "images", "pixels", "weight"]
    row = values["classes"][0]
    shown = (row["name"], f"{row['images']}", f"{row['pixels']:,}", f"{row['weight']:.3f}")
    assert tuple(first.split()) == shown


def test_many_pictures_are_told_of_as_they_are_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcn_train.console.PLAIN_SECONDS", 0.0)
    for layout in LAYOUTS:
        given = ("--layout", layout, "--train", "3", "--val", "1", "--size", "32")
        code, out, err = command("data", "sample", "--root", tmp_path / layout, *given)
        assert code == 0, err
        told = [line for line in out.splitlines() if line.startswith("writing ")]
        assert [line.split()[1] for line in told] == ["1/4", "2/4", "3/4", "4/4"]


def test_label_folder_is_refused_where_it_has_no_meaning(command: Command, tmp_path: Path) -> None:
    for verb in ("check", "stats"):
        code, _, err = command(
            "data", verb, "--kind", "camvid", "--root", tmp_path, "--label-folder", "x"
        )
        assert (code, err) == (2, "fcn: --label-folder has no meaning for --kind camvid\n")


def test_check_of_a_folder_tells_what_is_missing(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "check", "--kind", "folder", "--root", tmp_path / "absent")
    assert (code, err.count("\n")) == (2, 1)
    assert "absent: is missing; give the data set's folder: --root" in err
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    code, out, _ = command("data", "check", "--kind", "folder", "--root", tmp_path)
    assert code == 1
    assert "train.txt: list of image names cannot be read" in out
    assert 'or the split "" for every image' in out
    assert f"{tmp_path.name}, train: 0 pairs, 1 problem\n" in out


def test_statistics_that_cannot_be_written_name_the_file_asked_for(
    command: Command, sample_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    file = tmp_path / "file" / "numbers.json"
    code, _, err = command(
        "data", "stats", "--kind", "sample", "--root", sample_root, "--output", file
    )
    assert code == 2
    assert err.startswith(f"fcn: {file}: Not a directory")


def test_statistics_make_their_folder_as_other_results_do(
    command: Command, sample_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "absent" / "numbers.json"
    code, _, err = command(
        "data", "stats", "--kind", "sample", "--root", sample_root, "--output", file
    )
    assert (code, err) == (0, "")
    assert len(json.loads(file.read_text())["classes"]) == 21


def test_statistics_replace_no_list_of_images(
    command: Command, sample_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "train.txt"
    file.write_text("a\n")
    code, _, err = command(
        "data", "stats", "--kind", "sample", "--root", sample_root, "--output", file
    )
    assert (code, err) == (2, f"fcn: --output must end in .json, got {file}\n")
    assert file.read_text() == "a\n"


def test_check_looks_at_each_split_once(command: Command, sample_root: Path) -> None:
    splits = ("--split", "val", "train", "val")
    code, out, err = command("data", "check", "--kind", "sample", "--root", sample_root, *splits)
    assert code == 0
    once = command("data", "check", "--kind", "sample", "--root", sample_root, *splits[:3])
    assert once == (code, out, err)


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
    assert lines[-1].endswith("tset: 0 pairs, 1 problem")


@pytest.mark.parametrize("limit", [0, 1, 3])
@pytest.mark.parametrize(
    ("splits", "problems"),
    [
        (("train",), 2),
        (("train", "trainval"), 3),
        (("trainval", "train", "val"), 3),
        (("val", "trainval", "train"), 3),
        (("val", "train"), 3),
    ],
)
def test_check_counts_what_splits_share_once(
    splits: tuple[str, ...], problems: int, limit: int, sample_root: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "sample"))
    lists = root / "ImageSets" / "Segmentation"
    train, val = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val"))
    for name in (*train[:2], val[0]):
        (root / "JPEGImages" / f"{name}.jpg").unlink()
    options = CheckOptions(kind="voc", root=root, split=splits, limit=limit)
    assert check_data(options, Console(io.StringIO())) == problems


def test_sample_refuses_what_it_cannot_draw(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "sample", "--root", tmp_path / "s", "--size", "8")
    assert code == 2
    assert err == "fcn: --size must be in 32..4096, got 8\n"
    (tmp_path / "precious.txt").write_text("")
    code, _, err = command("data", "sample", "--root", tmp_path)
    assert code == 2
    assert "is not a sample data set" in err


def test_many_problems_of_one_sort_are_summed_up(command: Command, tmp_path: Path) -> None:
    """A list that names far more than an archive holds, as the published seg11valid may."""
    root = tmp_path / "sample"
    command("data", "sample", "--root", root, "--train", "3", "--val", "2", "--size", "40")
    names = [f"2007_{number:06d}" for number in range(500)]
    (root / "ImageSets" / "Segmentation" / "many.txt").write_text("\n".join(names))
    flags = ("data", "check", "--kind", "voc", "--root", root, "--split", "many")
    code, out, _ = command(*flags)
    assert code == 1
    lines = out.splitlines()
    assert len(lines) == 9
    assert lines[0].endswith(
        "2007_000000.jpg: image is missing; restore the file or take it off the list"
    )
    assert lines[6] == "... and 497 more of this sort (missing image); --limit 0 shows them all"
    assert lines[7] == "... and 497 more of this sort (missing label); --limit 0 shows them all"
    assert lines[8].endswith(
        "many: 500 pairs, 1000 problems: 500 x missing image, 500 x missing label"
    )
    assert len(command(*flags, "--limit", "0")[1].splitlines()) == 1001
    assert len(command(*flags, "--limit", "1")[1].splitlines()) == 5
    code, _, err = command(*flags, "--limit", "-1")
    assert (code, err) == (2, "fcn: --limit must be >= 0, got -1\n")


@pytest.mark.parametrize("kind", ["voc", "sift-flow", "camvid"])
def test_problems_of_no_sort_are_only_counted(kind: str, command: Command, tmp_path: Path) -> None:
    """Folders and lists that are missing: "4 x other" would say nothing."""
    (tmp_path / "images").mkdir()
    code, out, _ = command("data", "check", "--kind", kind, "--root", tmp_path)
    assert code == 1
    assert re.search(r": 0 pairs, \d+ problems?$", out, re.MULTILINE)
    assert "other" not in out.splitlines()[-1]


def test_classes_without_a_pixel_are_warned_of(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "sample"
    command("data", "sample", "--root", root, "--train", "1", "--val", "1", "--size", "40")
    code, out, err = command("data", "check", "--kind", "sample", "--root", root)
    assert (code, len(out.splitlines())) == (0, 2)
    assert re.fullmatch(
        r"warning: sample, train: no pixel of \d+ of 21 classes: (.+, ){7}.+ and \d+ more\n"
        r"warning: sample, val: no pixel of .*\n",
        err,
    )
    code, _, err = command("data", "stats", "--kind", "sample", "--root", root)
    assert code == 0
    assert "train.txt: no pixel of" in err


def _depth(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), 2000, np.uint16)).save(path)
    return path


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ("0 5 4 3", "focal lengths must be in [0.01, 1e+06], got 0 and 5"),
        ("5 nan 4 3", "focal lengths must be in [0.01, 1e+06], got 5 and nan"),
        ("5 inf 4 3", "focal lengths must be in [0.01, 1e+06], got 5 and inf"),
        ("1e-300 5 4 3", "focal lengths must be in [0.01, 1e+06], got 1e-300 and 5"),
        ("5 5 nan 3", "the principal point must be in [-1e+06, 1e+06], got nan and 3"),
        ("5 5 4 inf", "the principal point must be in [-1e+06, 1e+06], got 4 and inf"),
    ],
)
def test_numbers_that_are_no_camera(
    camera: str, message: str, command: Command, tmp_path: Path
) -> None:
    folder = _depth(tmp_path / "depth" / "a.png").parent
    given = ("data", "hha", "--depth", folder, "--output", tmp_path / "hha", "--camera")
    assert command(*given, *camera.split()) == (2, "", f"fcn: --camera: {message}\n")
    assert not (tmp_path / "hha").exists()


def test_hha_replaces_no_depth_image_and_none_of_another_file(
    command: Command, tmp_path: Path
) -> None:
    file = _depth(tmp_path / "depth" / "room" / "a.png")
    before, folder = file.read_bytes(), tmp_path / "depth"
    (tmp_path / "link").symlink_to(folder)
    camera = ("--camera", "5", "5", "4", "3")
    for output in (folder, folder / "room" / "..", tmp_path / "link"):
        code, _, err = command("data", "hha", "--depth", folder, "--output", output, *camera)
        assert (code, err.count("\n")) == (2, 1)
        assert "is a depth image; give another folder as --output" in err
    other = _depth(folder / "room" / "a.tif")
    code, _, err = command("data", "hha", "--depth", folder, "--output", tmp_path / "hha", *camera)
    assert code == 2
    assert f"{other}: its HHA image would replace that of {file}" in err
    assert file.read_bytes() == before


def _voc(root: Path, lines: list[str]) -> tuple[str, ...]:
    for name in ("JPEGImages", "SegmentationClass"):
        (root / name).mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(lines))
    return ("--kind", "voc", "--root", str(root), "--split", "train")


def _camvid(root: Path, lines: list[str]) -> tuple[str, ...]:
    (root / "train").mkdir(parents=True)
    (root / "train.txt").write_text("\n".join(lines))
    return ("--kind", "camvid", "--root", str(root), "--split", "train")


def _folder(root: Path, lines: list[str]) -> tuple[str, ...]:
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("a\nb\n")
    (root / "train.txt").write_text("\n".join(lines))
    return ("--kind", "folder", "--root", str(root), "--split", "train")


_MANY = 10_000
_HOSTILE_LISTS = {
    "missing images": (_voc, "2007_{:06}", "missing image"),
    "missing labels of CamVid": (_camvid, "train/{0}.png trainannot/{0}.png", "missing label"),
    "missing images of a folder": (_folder, "a/{}", "missing image"),
    "one image": (_voc, "2007", "missing image"),
    "each image twice": (_voc, "{2}", "repeated image"),
    "names outside": (_voc, "../{}", "name outside the data set"),
    "names outside a folder": (_folder, "../{}", "name outside the data set"),
    "other columns": (_camvid, "{}", "line of other columns"),
    "names of no text": (_voc, "{}\x1b", "image whose name is no plain text"),
}


@pytest.mark.parametrize("name", _HOSTILE_LISTS)
def test_a_list_of_millions_takes_little_memory(
    name: str, command: Command, tmp_path: Path
) -> None:
    """However much is wrong with a list, memory holds its names and the first problems."""
    make, line, kind = _HOSTILE_LISTS[name]
    lines = [line.format(i, i, i // 2) for i in range(_MANY)]
    command("data", "check", *make(tmp_path / "few", lines[:9]))  # what it imports stays
    flags = make(tmp_path / "many", lines)
    tracemalloc.start()
    try:
        code, out, _ = command("data", "check", *flags)
        # Some of that is Python's own, however long the list.
        assert tracemalloc.get_traced_memory()[1] / _MANY < 1100
    finally:
        tracemalloc.stop()
    assert code == 1
    count = _MANY // 2 if "twice" in name else _MANY
    assert f"{count} x {kind}" in out
    assert f"... and {count - 3} more of this sort ({kind})" in out
    assert len(out.splitlines()) < 20


def test_of_problems_of_a_list_the_first_thousand_are_shown(
    command: Command, tmp_path: Path
) -> None:
    flags = _voc(tmp_path / "data", [f"../{number}" for number in range(1500)])
    for limit, shown, told in ((0, 1000, 500), (3, 3, 1497), (1200, 1000, 300)):
        lines = command("data", "check", *flags, "--limit", limit)[1].splitlines()
        assert sum("outside the data set; move" in line for line in lines) == shown
        more = f"... and {told} more of this sort (name outside the data set)"
        assert lines[-2] == more + "; --limit 0 shows more" * bool(limit)
        assert "1500 x name outside the data set" in lines[-1]
