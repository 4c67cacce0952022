"""A checkpoint is whole or absent, whatever fails while it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train.checkpoint import (
    Checkpoint,
    checkpoints,
    load_checkpoint,
    load_checkpoint_weights,
    restore_newest,
    save_checkpoint,
)
from fcn_train.errors import UsageError, WriteError

Disk = Any  # the fixture of conftest.py


def content(value: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    weights = {"a.weight": torch.full((2, 3), value), "n": torch.tensor(int(value))}
    return weights, {"optimizer": {"buffer": torch.full((4,), value)}, "losses": [value, 1.0]}


def newest(folder: Path, warn: Callable[[str], None] = pytest.fail) -> Checkpoint | None:
    return restore_newest(folder, lambda saved: None, warn)


def assert_holds(folder: Path, step: int, value: float) -> None:
    found = newest(folder)
    assert found is not None
    assert found.step == step
    weights, state = content(value)
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[key], weights[key]) for key in weights)
    assert torch.equal(found.state["optimizer"]["buffer"], state["optimizer"]["buffer"])
    assert found.state["losses"] == state["losses"]


def test_round_trip_keeps_the_newest_two(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for step in (1, 2, 3, 1000, 20000):
        save_checkpoint(tmp_path, step, *content(step))
        assert_holds(tmp_path, step, step)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in checkpoints(tmp_path)] == ["step-001000", "step-020000"]


@pytest.mark.parametrize("step", [2, 1], ids=["a new step", "the same step"])
def test_failure_at_any_operation_leaves_a_whole_checkpoint(
    step: int, tmp_path: Path, disk: Disk
) -> None:
    save_checkpoint(tmp_path / "count", 0, *content(0))
    save_checkpoint(tmp_path / "count", 1, *content(1))
    disk.operations.clear()
    save_checkpoint(tmp_path / "count", step, *content(2))
    operations = len(disk.operations)
    assert operations >= 9
    for fail_at in range(1, operations + 1):
        folder = tmp_path / f"{fail_at}"
        disk.work()
        save_checkpoint(folder, 0, *content(0))
        save_checkpoint(folder, 1, *content(1))
        disk.fail_at(fail_at)
        with pytest.raises(WriteError, match=r"cannot be written \(No space left.*MiB are free"):
            save_checkpoint(folder, step, *content(2))
        found = newest(folder)
        assert found is not None
        assert found.state["losses"][0] in (0, 1, 2)
        assert all((found.weights["a.weight"] == found.state["losses"][0]).ravel())
        if step == 2:
            assert found.step == 1 or fail_at > operations - 2
        disk.work()
        save_checkpoint(folder, 3, *content(3))
        assert_holds(folder, 3, 3)
        assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, damage: str, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, 1, *content(1))
    path = save_checkpoint(tmp_path, 2, *content(2)) / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0x55
        path.write_bytes(data)
    said: list[str] = []
    found = newest(tmp_path, said.append)
    assert found is not None
    assert found.step == 1
    assert len(said) == 1
    assert "step-000002" in said[0]
    with pytest.raises(UsageError, match="step-000002"):
        load_checkpoint(path.parent)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    path = save_checkpoint(tmp_path, 1, *content(1))
    torch.save({"x": Hostile()}, path / "state.pt")
    manifest = json.loads((path / "checkpoint.json").read_text())
    digest = hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    manifest["sha256"]["state.pt"] = digest
    (path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"state\.pt: holds more than tensors"):
        load_checkpoint(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("count", [2, 5])
def test_only_numbers_are_steps(count: int, tmp_path: Path) -> None:
    """Names are compared as numbers, and other folders are neither read nor removed."""
    foreign = ["step-keep-4", "step-", "step-00001", "step-0000005", "step-1e6000", "step--00001"]
    foreign += [
        "step-000001.bak",
        "step-\u0660\u0660\u0660\u0660\u0660\u0661",
        "step-000001 (copy)",
        "step-+00001",
    ]
    for name in foreign:
        (tmp_path / name).mkdir()
    (tmp_path / "step-000777").touch()
    steps = [999_998, 999_999, 1_000_000, 1_000_001, 10_000_000][:count]
    for step in steps:
        save_checkpoint(tmp_path, step, *content(step % 100))
        assert_holds(tmp_path, step, step % 100)
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{s:06d}" for s in steps[-2:]]
    assert all((tmp_path / name).is_dir() for name in foreign)


def test_checkpoint_just_written_is_never_the_one_removed(tmp_path: Path) -> None:
    """A run that goes on from an older checkpoint finds those of later steps in its way."""
    for step in (10, 20):
        save_checkpoint(tmp_path, step, *content(1))
    for path in checkpoints(tmp_path):
        (path / "state.pt").write_bytes(b"damaged")
    for step in (3, 4, 5):
        path = save_checkpoint(tmp_path, step, *content(2))
        assert load_checkpoint(path).step == step
    names = [path.name for path in checkpoints(tmp_path)]
    assert names == ["step-000004", "step-000005", "step-000010", "step-000020"]


@pytest.mark.parametrize("step", [-7, 10**9, 3, 2.0, "2", True, None, [2]])
def test_step_of_a_manifest_is_not_believed(step: Any, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 2, *content(2))
    manifest = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps({**manifest, "step": step}))
    for load in (load_checkpoint, load_checkpoint_weights):
        with pytest.raises(UsageError, match="step-000002: is not a whole checkpoint"):
            load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"sha256": {}},
        {"sha256": None},
        {"sha256": {"weights.safetensors": "0", "state.pt": "0"}},
    ],
)
def test_manifest_must_vouch_for_every_file(change: dict[str, Any], tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 2, *content(2))
    manifest = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps({**manifest, **change}))
    for load in (load_checkpoint, load_checkpoint_weights):
        with pytest.raises(UsageError, match="step-000002"):
            load(path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 2, *content(2))
    for name in ("weights.safetensors", "checkpoint.json", "state.pt"):
        whole = (path / name).read_bytes()
        for bit in range(0, 8 * len(whole), 1 if name == "checkpoint.json" else 29):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            (path / name).write_bytes(damaged)
            with pytest.raises(UsageError, match="step-000002"):
                load_checkpoint(path)
        (path / name).write_bytes(whole)
    assert load_checkpoint(path).step == 2


def test_checkpoint_that_does_not_fit_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, *content(step), keep=3)

    def restore(saved: Checkpoint) -> None:
        if saved.step > 1:
            raise UsageError(f"{saved.path}: is of another run")

    said: list[str] = []
    found = restore_newest(tmp_path, restore, said.append)
    assert found is not None
    assert found.step == 1
    assert [text.split(": ")[1] for text in said] == ["is of another run"] * 2


def test_no_checkpoint_that_can_be_used_is_not_none_at_all(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, *content(1))
    (path / "state.pt").unlink()
    said: list[str] = []
    with pytest.raises(UsageError, match="holds no checkpoint that can be used; remove the folder"):
        newest(tmp_path, said.append)
    assert len(said) == 1
