"""Files of weights that other programs wrote."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from fcn_train.errors import UsageError
from fcn_train.text_files import NO_FILE, is_special
from fcn_train.weights import CHECKSUM, read_tensors, verify

# Names under which programs keep a state dict among other things, and prefixes of its keys.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
PREFIXES = ("module.", "model.", "_orig_mod.")
_GIVE = "give a .pth state dict, .safetensors or .npz"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .npz or a .pth state dict; no file's code is run.

    A state dict is found within what programs save around it (``{"state_dict": ..., "epoch": 3}``),
    and its keys lose the prefixes of wrapping modules (``module.``, ``model.``).

    Raises:
        UsageError: the file does not hold weights; the message says what it is instead.
    """
    refuse_other_files(path)
    try:
        if path.suffix == ".safetensors":
            state: Any
            state, metadata = read_tensors(path)
            if CHECKSUM in metadata:  # a run's weights, given as a file of weights
                verify(path, state, metadata)
        elif path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            _refuse_other_starts(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path}: holds more than tensors and is not loaded; save the state dict alone"
        ) from None
    except (
        *(OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError, AttributeError),
        *(SafetensorError, IndexError, BadZipFile),
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "locating file data.pkl" in reason or "hasRecord" in reason:  # other words of torch's
            reason = "torch.save did not write this archive"
        raise UsageError(f"{path}: weights cannot be read ({reason[:200]}); {_GIVE}") from None
    state = _unwrapped(state)
    if not isinstance(state, dict) or not state:
        raise UsageError(f"{path}: must hold a state dict, a mapping of names to tensors")
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise UsageError(
            f"{path}: must hold a state dict, a mapping of names to tensors, but {some(others)} "
            "is none"
        )
    return {str(name): value for name, value in state.items()}


def refuse_other_files(path: Path) -> None:
    """Recognize a file that only looks like weights by its first bytes. Raises UsageError."""
    try:
        if is_special(path):
            raise UsageError(f"{path}: weights cannot be read ({NO_FILE}); {_GIVE}")
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UsageError(f"{path}: weights cannot be read ({error.strerror}); {_GIVE}") from None
    if not start:
        raise UsageError(f"{path}: is empty; download it again")
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise UsageError(f"{path}: is a web page, not weights; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise UsageError(f"{path}: is a Git LFS pointer, not weights; run git lfs pull")
    if path.suffix == ".npz" and not start.startswith(b"PK"):
        raise UsageError(f"{path}: is no .npz, an archive of arrays as numpy.savez writes; {_GIVE}")
    if path.suffix == ".caffemodel":
        raise UsageError(
            f"{path}: is a Caffe model, which is not read; save its layers as an .npz with the "
            "names conv1_1.weight, conv1_1.bias and so on"
        )


def _refuse_other_starts(path: Path) -> None:
    """Raises UsageError for a file that does not begin as an archive or a pickle does. Of any text,
    Python's pickle takes the first letters as orders."""
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK" and start[:1] != b"\x80":
        raise UsageError(f"{path}: weights cannot be read (torch.save wrote no such file); {_GIVE}")


def source_of(state: Iterable[str]) -> tuple[str, Literal["imagenet", "caffe"]]:
    """Whose names a classifier's layers have, and how images are normalized there."""
    if any(name.startswith("features.") for name in state):
        return "torchvision", "imagenet"
    return "Caffe", "caffe"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    found = [str(name) for name in names]
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")


def _unwrapped(state: Any) -> Any:
    while isinstance(state, dict):
        inner = next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict):
        return state
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if 2 * sum(str(name).startswith(prefix) for name in state) > len(state):
                state = {str(name).removeprefix(prefix): value for name, value in state.items()}
                stripped = True
    return state
