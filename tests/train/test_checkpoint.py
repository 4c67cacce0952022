"""A checkpoint is whole or absent, whatever fails while it is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train import checkpoint
from fcn_train.checkpoint import (
    atomic_path,
    checkpoints,
    load_checkpoint,
    load_newest,
    load_weights,
    save_checkpoint,
    save_weights,
    write_text,
)
from fcn_train.errors import TrainingError, UsageError


def content(value: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    weights = {"a.weight": torch.full((2, 3), value), "n": torch.tensor(int(value))}
    return weights, {"optimizer": {"buffer": torch.full((4,), value)}, "losses": [value, 1.0]}


def assert_holds(folder: Path, step: int, value: float) -> None:
    found = load_newest(folder, pytest.fail)
    assert found is not None
    assert found.step == step
    weights, state = content(value)
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[key], weights[key]) for key in weights)
    assert torch.equal(found.state["optimizer"]["buffer"], state["optimizer"]["buffer"])
    assert found.state["losses"] == state["losses"]


def test_round_trip_keeps_the_newest_two(tmp_path: Path) -> None:
    assert load_newest(tmp_path, pytest.fail) is None
    for step in (1, 2, 3, 1000, 20000):
        save_checkpoint(tmp_path, step, *content(step))
        assert_holds(tmp_path, step, step)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in checkpoints(tmp_path)] == ["step-001000", "step-020000"]


def test_memory_layout_is_no_part_of_the_weights(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", {"w": weight, "t": weight[0, 0].t()})
    loaded = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(loaded["w"], weight)
    assert torch.equal(loaded["t"], weight[0, 0].t())


class Disk:
    """Fails at the k-th operation that reaches the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail_at = -1
        self.calls = 0
        for module, name in (
            (os, "fsync"),
            (os, "replace"),
            (torch, "save"),
            (checkpoint, "save_file"),
            (Path, "write_text"),
            (Path, "mkdir"),
        ):
            monkeypatch.setattr(module, name, self.failing(getattr(module, name)))

    def failing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(28, "No space left on device")
            return operation(*arguments, **keywords)

        return run


@pytest.mark.parametrize("step", [2, 1], ids=["a new step", "the same step"])
def test_failure_at_any_operation_leaves_a_whole_checkpoint(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    save_checkpoint(tmp_path / "count", 1, *content(1))
    disk.calls = 0
    save_checkpoint(tmp_path / "count", step, *content(2))
    operations = disk.calls
    assert operations >= 9
    for fail_at in range(1, operations + 1):
        folder = tmp_path / f"{fail_at}"
        disk.fail_at = -1
        save_checkpoint(folder, 0, *content(0))
        save_checkpoint(folder, 1, *content(1))
        disk.calls, disk.fail_at = 0, fail_at
        with pytest.raises(TrainingError, match=r"could not be written .*No space left.*MiB are"):
            save_checkpoint(folder, step, *content(2))
        found = load_newest(folder, pytest.fail)
        assert found is not None
        assert found.state["losses"][0] in (0, 1, 2)
        assert all((found.weights["a.weight"] == found.state["losses"][0]).ravel())
        if step == 2:
            assert found.step == 1 or fail_at == operations
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
    found = load_newest(tmp_path, said.append)
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


def test_atomic_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with contextlib.suppress(ValueError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    disk = Disk(monkeypatch)
    for fail_at in (1, 2, 3):
        disk.calls, disk.fail_at = 0, fail_at
        with pytest.raises(OSError, match="No space"):
            write_text(path, "second")
        assert path.read_text() == "first"
        assert list(tmp_path.iterdir()) == [path]
    disk.fail_at = -1
    write_text(path, "second")
    assert path.read_text() == "second"


def test_unreadable_weights_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    for name in ("w.safetensors", "absent.safetensors"):
        with pytest.raises(UsageError, match=f"{name}: weights cannot be read"):
            load_weights(tmp_path / name)
