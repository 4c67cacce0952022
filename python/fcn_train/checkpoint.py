"""Checkpoints that are whole or absent.

A checkpoint is a folder ``step-000400`` of ``weights.safetensors``, ``state.pt`` (optimiser,
random generators, progress; plain tensors and numbers, read with ``weights_only=True``) and
``checkpoint.json`` with the SHA-256 of both. It is written under a temporary name beside its
place, flushed to the disk and renamed, so that a crash or a full disk leaves the previous one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fcn_train.errors import TrainingError, UsageError

FORMAT = 1
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "checkpoint.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint folder holds, verified against its checksums."""

    path: Path
    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` that takes its name when the block succeeds."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the name that its giver knows
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """A state dict as safetensors, atomically."""
    with atomic_path(path) as temporary:
        _write_weights(temporary, weights)


def load_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: weights cannot be read ({error}); give another run") from None


def save_checkpoint(
    folder: Path, step: int, weights: dict[str, Tensor], state: dict[str, Any], *, keep: int = 2
) -> Path:
    """Write ``folder/step-NNNNNN`` and remove all but the newest ``keep``.

    Raises TrainingError when the disk refuses; the checkpoints before are then untouched.
    """
    final = folder / f"step-{step:06d}"
    temporary = folder / f".{final.name}.tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary.mkdir()
        _write_weights(temporary / WEIGHTS, weights)
        torch.save(state, temporary / STATE)
        digests = {name: _sha256(temporary / name) for name in (WEIGHTS, STATE)}
        manifest = {"format": FORMAT, "step": step, "sha256": digests}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for name in (WEIGHTS, STATE, MANIFEST):
            sync_file(temporary / name)
        sync_folder(temporary)
        if final.exists():
            os.replace(final, folder / f".{final.name}.old-{os.getpid()}")
        os.replace(temporary, final)
        sync_folder(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(_failure(folder, final, weights, error)) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    _remove_leftovers(folder)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder. Raises UsageError when it is not whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {manifest['format']}")
        for name, digest in manifest["sha256"].items():
            if _sha256(path / name) != digest:
                raise UsageError(f"{path / name}: does not match its checksum; use an older one")
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        return Checkpoint(path, int(manifest["step"]), load_file(path / WEIGHTS), state)
    except pickle.UnpicklingError:
        raise UsageError(f"{path / STATE}: holds more than tensors and is not loaded") from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise UsageError(f"{path}: is not a whole checkpoint ({error})") from None


def load_newest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies; those that do not are named through ``warn``."""
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except UsageError as error:
            warn(str(error))
    return None


def _write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remove_leftovers(folder: Path) -> None:
    for pattern in (".step-*.tmp-*", ".step-*.old-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _failure(folder: Path, final: Path, weights: dict[str, Tensor], error: Exception) -> str:
    needed = 2 * sum(t.numel() * t.element_size() for t in weights.values())
    kept = checkpoints(folder)
    text = f"{final}: checkpoint could not be written ({error})"
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        text += f"; it needs about {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
    return text + (f"; {kept[-1].name} is intact, continue with --resume" if kept else "")
