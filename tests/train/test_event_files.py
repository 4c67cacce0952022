"""Curves for TensorBoard: the rows of the tables, each once, whatever interrupts a run."""

from __future__ import annotations

import csv
import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_train import event_files
from fcn_train.errors import WriteError
from fcn_train.event_files import FOLDER, EventFile, event, masked, record, remove_event_file
from fcn_train.history import SCORES, History
from fcn_train.options import TrainOptions
from fcn_train.train import train
from tests.train.running import killed

Points = list[tuple[str, int, float]]


def records(path: Path) -> Iterator[bytes]:
    """The contents of a TFRecord file; every length and checksum must fit."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        length, crc = struct.unpack_from("<QI", content, place)
        assert crc == masked(content[place : place + 8])
        data = content[place + 12 : place + 12 + length]
        assert struct.unpack_from("<I", content, place + 12 + length)[0] == masked(data)
        yield data
        place += 16 + length


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer by their numbers."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(content):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield number, content[place : place + size]
        place += size


def points(run: Path) -> Points:
    """All scalars of a run's one event file, as (tag, step, value)."""
    (path,) = (run / FOLDER).iterdir()
    found: Points = []
    for number, content in enumerate(records(path)):
        outer = dict(fields(content))
        assert struct.unpack("<d", outer[1])[0] > 1.7e9  # type: ignore[arg-type]
        if number == 0:
            assert outer[3] == b"brain.Event:2"
        if number == 1:
            assert outer[7] == b"\x08\x01"
        for _, value in fields(outer.get(5, b"")):  # type: ignore[arg-type]
            inner = dict(fields(value))  # type: ignore[arg-type]
            tag, scalar = inner[1].decode(), struct.unpack("<f", inner[2])[0]  # type: ignore
            found.append((tag, int(outer[2]), scalar))
    return found


def expected(run: Path) -> Points:
    """What the tables of a run say."""
    found: Points = []
    for table, prefix, names in (
        ("training.csv", "train", ("loss", "lr")),
        ("evaluations.csv", "val", SCORES),
    ):
        with (run / table).open(newline="") as file:
            for row in csv.DictReader(file):
                step = int(float(row["step"]))
                found += [(f"{prefix}/{name}", step, float(row[name])) for name in names]
    return found


def assert_same_points(found: Points, wanted: Points) -> None:
    assert sorted(p[:2] for p in found) == sorted(p[:2] for p in wanted)
    for one, other in zip(sorted(found), sorted(wanted), strict=True):
        assert one[2] == pytest.approx(other[2], rel=1e-6)


def test_checksum_is_crc_32c() -> None:
    """Its value for the nine digits is in every table of checksums."""
    crc = 0xE3069283
    assert masked(b"123456789") == (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    assert masked(b"") == 0xA282EAD8


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 2**31, 2**62])
def test_steps_of_any_size(step: int) -> None:
    outer = dict(fields(event(1.5, step, scalars={"a": 0.25, "caf\u00e9": float("inf")})))
    assert outer[2] == step
    values = [dict(fields(value)) for _, value in fields(outer[5])]  # type: ignore[arg-type]
    assert [value[1] for value in values] == [b"a", "caf\u00e9".encode()]
    assert values[1][2] == struct.pack("<f", float("inf"))


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_run_has_each_point_once(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after points that its last checkpoint does not know, and continued."""
    options = replace(tiny_options, tensorboard=True, log_every=1, checkpoint_every=4)
    run = killed(options, tmp_path / "run", 8, monkeypatch)
    before = points(run)
    assert ("train/loss", 7) in [point[:2] for point in before]
    train(options, run)
    found = points(run)
    assert len({point[:2] for point in found}) == len(found) == len(expected(run))
    assert_same_points(found, expected(run))


def test_each_set_of_labels_has_its_loss(tmp_path: Path) -> None:
    """But in rows from before it was logged."""
    history = History(label_sets=["semantic", "geometric"])
    history.training, history.head_losses = (
        [[1, 0.5, 0.1, 3.0], [2, 1.0, 0.1, 2.5]],
        [[], [2.0, 0.5]],
    )
    EventFile(tmp_path).follow(history)
    found = [point for point in points(tmp_path) if "/loss" in point[0]]
    assert sorted(found) == [
        ("train/geometric/loss", 2, 0.5),
        ("train/loss", 1, 3.0),
        ("train/loss", 2, 2.5),
        ("train/semantic/loss", 2, 2.0),
    ]


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_is_continued_may_start_to_write(
    tiny_options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(tiny_options, tmp_path / "run", 7, monkeypatch)
    assert not (run / FOLDER).exists()
    train(replace(tiny_options, tensorboard=True), run)
    assert_same_points(points(run), expected(run))


def history(label_sets: tuple[str, ...]) -> History:
    made = History(label_sets=list(label_sets))
    made.training.append([2, 0.5, 0.1, 3.0])
    made.head_losses.append([])
    made.evaluations.append([2, 0.5, *(0.1 * i for i in range(5 * len(label_sets)))])
    return made


def test_curves_of_a_run_that_goes_on_without_them_are_removed(tmp_path: Path) -> None:
    """And no file of another program in their folder."""
    remove_event_file(tmp_path)
    for others in ([], ["events.out.tfevents.1.other"]):
        EventFile(tmp_path).follow(History())
        for name in others:
            (tmp_path / FOLDER / name).write_bytes(b"")
        remove_event_file(tmp_path)
        left = [path.name for path in tmp_path.glob(f"{FOLDER}/*")]
        assert left == others
        assert (tmp_path / FOLDER).exists() == bool(others)


def test_rows_come_once_and_by_label_set(tmp_path: Path) -> None:
    made = history(("things", "parts"))
    file = EventFile(tmp_path)
    file.follow(made)
    file.follow(made)
    made.training.append([4, 1.0, 0.2, 1.0])
    made.head_losses.append([])
    file.follow(made)
    found = points(tmp_path)
    assert [point[0] for point in found] == [
        *("train/loss", "train/lr"),
        *(f"val/{name}/{score}" for name in ("things", "parts") for score in SCORES),
        *("train/loss", "train/lr"),
    ]
    assert found[-1][1] == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_at_once(tmp_path: Path) -> None:
    file = EventFile(tmp_path)

    file.path = Path("/dev/full")
    with pytest.raises(WriteError, match=r"No space left.*free some space"):
        file.follow(history(("",)))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")
    with pytest.raises(WriteError, match="tensorboard"):
        EventFile(tmp_path)


def test_tensorboard_reads_the_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second file of one run in its place, as after a kill: its points alone count."""
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed: pip install 'fcn_ext[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = history(("",))
    made.training.append([4, 1.0, 0.2, 7.0])
    made.head_losses.append([])
    first = EventFile(tmp_path)
    first.follow(made)
    old = first.path.read_bytes()
    del made.training[-1], made.head_losses[-1]
    monkeypatch.setattr(event_files.time, "time", lambda: 2e9)
    second = EventFile(tmp_path)
    first.path.write_bytes(old)  # what a TensorBoard that looks on has read before
    second.follow(made)
    reader = EventAccumulator(str(tmp_path / FOLDER))
    reader.Reload()
    assert [(p.step, p.value) for p in reader.Scalars("train/loss")] == [(2, 3.0)]
    assert {"val/mean_iu", "val/pixel_accuracy", "train/lr"} <= set(reader.Tags()["scalars"])


def test_a_record_has_its_frame() -> None:
    assert record(b"ab")[:8] == struct.pack("<Q", 2)
    assert len(record(b"ab")) == 18
