"""A run's weights, ``last.safetensors`` and ``best.safetensors``, with a checksum inside.

The checksum covers names, types, shapes and values of all tensors and lies in the file's metadata,
so the file is verified wherever it is copied. Files without any metadata, from versions before the
checksum, are read unverified.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fcn_train.errors import UsageError
from fcn_train.files import atomic_path

CHECKSUM = "sha256"


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors with its checksum, atomically.

    Raises:
        WriteError: the disk refused.
    """
    tensors = plain(weights)
    with atomic_path(path) as temporary:
        save_tensors(temporary, tensors, {CHECKSUM: checksum(tensors)})


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """``save_file``, with the permissions of any new file: safetensors from 0.8 on makes one that
    nobody but its owner may read."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata)
    path.chmod(mode)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict that ``save_weights`` wrote.

    Raises:
        UsageError: the file cannot be read, or does not match its checksum.
    """
    try:
        tensors, metadata = read_tensors(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UsageError(f"{path}: weights cannot be read ({error}); restore the file") from None
    # Metadata other than what programs write is a checksum whose name was damaged.
    foreign = not metadata or metadata == {"format": "pt"}
    if not foreign:
        verify(path, tensors, metadata)
    return tensors


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, by name, and its metadata; nothing is verified."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def verify(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raises UsageError if ``tensors`` do not match the checksum in ``metadata``."""
    if metadata.get(CHECKSUM) != checksum(tensors):
        raise UsageError(f"{path}: is damaged, its weights do not match their checksum")


def plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors can write them: detached, on the CPU, contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
