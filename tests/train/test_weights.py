"""Files of weights that know when a bit of them was changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fcn_train.checkpoint import save_checkpoint
from fcn_train.errors import UsageError
from fcn_train.weights import checksum, load_weights, save_weights


def test_memory_layout_is_no_part_of_the_weights(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", {"w": weight, "t": weight[0, 0].t()})
    loaded = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(loaded["w"], weight)
    assert torch.equal(loaded["t"], weight[0, 0].t())


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_weights_have_the_permissions_of_other_files(umask: int, tmp_path: Path) -> None:
    """Some versions of safetensors make files for their owner alone."""
    tensors, before = {"w": torch.zeros(2)}, os.umask(umask)
    try:
        (tmp_path / "plain.txt").touch()
        for _ in range(2):  # new, and in place of another
            save_weights(tmp_path / "w.safetensors", tensors)
        saved = save_checkpoint(tmp_path / "checkpoints", 1, tensors, {})
    finally:
        os.umask(before)
    expected = (tmp_path / "plain.txt").stat().st_mode
    files = [tmp_path / "w.safetensors", *saved.iterdir()]
    assert {path.name: path.stat().st_mode for path in files} == {
        path.name: expected for path in files
    }


def test_every_kind_of_tensor_has_its_checksum(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 2),
        "half": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 4),
    }
    save_weights(tmp_path / "w.safetensors", tensors)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    found = {
        checksum({**tensors, **change})
        for change in (
            {},
            {"float": tensors["float"].t()},
            {"count": torch.tensor(7, dtype=torch.int32)},
            {"none": torch.zeros(4, 0)},
            {"more": torch.zeros(0)},
        )
    }
    assert len(found) == 5


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a.weight": torch.randn(4, 3), "n": torch.tensor(3)})
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"w\.safetensors: (is dam|weights cannot)"):
            load_weights(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_files_without_a_checksum_are_read(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", metadata)
    assert torch.equal(load_weights(tmp_path / "w.safetensors")["a"], torch.ones(2))


def test_unreadable_weights_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    for name in ("w.safetensors", "absent.safetensors"):
        with pytest.raises(UsageError, match=f"{name}: weights cannot be read"):
            load_weights(tmp_path / name)
