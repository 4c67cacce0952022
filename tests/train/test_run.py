"""A run read back, and what is refused when its files are damaged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcn_train.errors import UsageError
from fcn_train.run import load_run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.parametrize("which", ["last", "best"])
def test_flipped_bits_are_noticed_by_every_command(
    which: str, run: Path, sample_root: Path, command: Command, tmp_path: Path
) -> None:
    path = run / f"{which}.safetensors"
    whole = path.read_bytes()
    image = next((sample_root / "JPEGImages").iterdir())
    random.seed(0)
    for number in range(40):
        damaged = bytearray(whole)
        bit = random.randrange(8 * len(whole)) if number % 2 else random.randrange(8 * 4000)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        arguments = ("--run", run, "--weights", which, "--output", tmp_path / "out")
        name = ("evaluate",) if number % 4 < 2 else ("predict", image)
        code, _, err = command(*name, *arguments)
        assert code == 2, f"bit {bit} was read"
        assert err.startswith(f"fcn: {path}: "), err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_checkpoint_of_an_unfinished_run_is_verified(run: Path, command: Command) -> None:
    (run / "last.safetensors").unlink()
    newest = run / "checkpoints" / "step-000008"
    weights = load_file(newest / "weights.safetensors")
    model = load_run(run).model
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    data = bytearray((newest / "weights.safetensors").read_bytes())
    data[-9] ^= 1
    (newest / "weights.safetensors").write_bytes(data)
    code, _, err = command("evaluate", "--run", run)
    assert code == 2
    assert f"{newest}" in err
    assert "does not match its checksum" in err


def test_remedy_for_damaged_weights(run: Path) -> None:
    data = bytearray((run / "last.safetensors").read_bytes())
    data[-1] ^= 128
    (run / "last.safetensors").write_bytes(data)
    message = r"last.safetensors: is damaged.*; remove it to use the newest checkpoint"
    with pytest.raises(UsageError, match=message):
        load_run(run)
    (run / "last.safetensors").unlink()
    load_run(run)
    (run / "best.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"best.safetensors: .*; use --weights last"):
        load_run(run, "best")


def test_run_without_weights_is_named(run: Path) -> None:
    (run / "last.safetensors").unlink()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match=f"^{run}: has no checkpoint yet; train it first"):
        load_run(run)


def test_weights_of_another_network_are_named(run: Path) -> None:
    save_file({"a": torch.zeros(2)}, run / "last.safetensors")
    with pytest.raises(UsageError, match=r"last.safetensors: does not fit the network of"):
        load_run(run)


def test_runs_of_a_time_before_checksums_are_read(run: Path) -> None:
    for which in ("last", "best"):
        path = run / f"{which}.safetensors"
        save_file(load_file(path), path)
        load_run(run, which)


def test_a_run_is_read_by_its_name(finished_run: Path) -> None:
    assert load_run(str(finished_run)).path == finished_run
    with pytest.raises(ValueError, match="weights must be 'last' or 'best', got 'first'"):
        load_run(finished_run, "first")
