"""Checkpoints that are either complete or absent.

A checkpoint is a folder ``step-000400`` of ``weights.safetensors``, ``state.pt`` (optimizer and
progress; plain tensors and numbers, read with ``weights_only=True``) and ``checkpoint.json`` with
the step and the SHA-256 of both. It is written under a temporary name, flushed to the disk and
renamed, so that after a crash or on a full disk the previous one is intact.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fcn_train.errors import UsageError, WriteError
from fcn_train.files import (
    in_mib,
    refusal,
    remove_leftovers,
    sha256,
    sync_file,
    sync_folder,
    temporary_path,
)
from fcn_train.json_text import parse_json
from fcn_train.weights import plain, save_tensors

FORMAT = 1
# The errors that reading a damaged file can raise.
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError),
    SafetensorError,
)
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "checkpoint.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint folder holds, verified against its checksums."""

    path: Path
    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, weights: dict[str, Tensor], state: dict[str, Any], *, keep: int = 2
) -> Path:
    """Write ``folder/step-NNNNNN`` and remove all but ``keep - 1`` of the checkpoints before it.

    Raises WriteError when the disk refuses; the earlier checkpoints are then untouched.
    """
    final = folder / f"step-{step:06d}"
    temporary = temporary_path(final)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, locked=True)
        temporary.mkdir()
        save_tensors(temporary / WEIGHTS, plain(weights))
        # With a file in place of a name, torch keeps the system's reason for a failure.
        with (temporary / STATE).open("wb") as file:
            torch.save(state, file)
        digests = {name: sha256(temporary / name) for name in (WEIGHTS, STATE)}
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
        raise WriteError(_failure(final, weights, error)) from error
    # Checkpoints of later steps stay: this run was continued from before them.
    older = [path for path in checkpoints(folder) if (step_of(path) or 0) < step]
    for path in older[: len(older) - (keep - 1)]:
        shutil.rmtree(path, ignore_errors=True)
    remove_leftovers(folder, locked=True)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first; folders of any other name are not ours."""
    found = ((step_of(path), path) for path in folder.glob("step-*") if path.is_dir())
    return [path for _, path in sorted((step, path) for step, path in found if step is not None)]


def step_of(path: Path) -> int | None:
    """The step in a checkpoint folder's name; None if it is another name."""
    match = re.fullmatch(r"step-(\d{6,18})", path.name, re.ASCII)
    step = int(match[1]) if match else None
    return step if step is not None and path.name == f"step-{step:06d}" else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder. Raises UsageError when it is not whole."""
    try:
        step, digests = _manifest(path)
        for name in (WEIGHTS, STATE):
            _verify(path / name, digests[name])
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        return Checkpoint(path, step, load_file(path / WEIGHTS), state)
    except pickle.UnpicklingError:
        raise UsageError(f"{path / STATE}: holds more than tensors and is not loaded") from None
    except UNREADABLE as error:
        raise UsageError(f"{path}: is not a whole checkpoint ({error})") from None


def load_checkpoint_weights(path: Path) -> dict[str, Tensor]:
    """The weights of one checkpoint folder, verified. Raises UsageError when they are not whole."""
    try:
        _verify(path / WEIGHTS, _manifest(path)[1][WEIGHTS])
        return load_file(path / WEIGHTS)
    except UNREADABLE as error:
        raise UsageError(f"{path}: is not a whole checkpoint ({error})") from None


def restore_newest(
    folder: Path, restore: Callable[[Checkpoint], None], warn: Callable[[str], None]
) -> Checkpoint | None:
    """Restore from the newest checkpoint that verifies and fits; None if there is none.

    Args:
        folder: the folder of a run's checkpoints.
        restore: restores a checkpoint; raises UsageError for one that does not fit.
        warn: called for every checkpoint that was skipped.

    Raises:
        UsageError: there are checkpoints, but none that can be used.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            saved = load_checkpoint(path)
            restore(saved)
            return saved
        except UsageError as error:
            warn(str(error))
    if found:
        raise UsageError(
            f"{folder}: holds no checkpoint that can be used; remove the folder to start the run "
            "again from its beginning"
        )
    return None


def _manifest(path: Path) -> tuple[int, dict[str, str]]:
    """Step and checksums of a checkpoint folder, checked for plausibility."""
    manifest = parse_json((path / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {manifest['format']}")
    step = manifest["step"]
    if type(step) is not int or step != step_of(path):
        raise ValueError(f"{MANIFEST} says step {step}")
    return step, dict(manifest["sha256"])


def _verify(path: Path, digest: str) -> None:
    if sha256(path) != digest:
        raise UsageError(f"{path}: does not match its checksum; use an older one")


def _failure(final: Path, weights: dict[str, Tensor], error: BaseException) -> str:
    needed = 2 * sum(t.numel() * t.element_size() for t in weights.values())
    return f"{refusal(final, error)}; a checkpoint needs about {in_mib(needed)}"
