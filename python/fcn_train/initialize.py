"""The weights that a network starts from: a classifier's, or a coarser network's."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fcn_ext import models
from fcn_ext.models import FCN
from fcn_train.errors import UsageError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .npz or a .pth state dict; no file's code is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path}: holds more than tensors and is not loaded; save the state dict alone"
        ) from None
    except (OSError, ValueError, EOFError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"{path}: weights cannot be read ({error})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"{path}: must hold a state dict, a mapping of names to tensors")
    return state


def from_classifier(model: FCN, path: Path) -> None:
    """The trunk from the file of its classifier."""
    state = read_state_dict(path)
    try:
        models.load_classifier(model, state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None


def from_coarser(model: FCN, coarser: FCN, path: Path) -> None:
    """Every layer that the coarser network of the run ``path`` has."""
    try:
        models.initialize_from_coarser(model, coarser)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None
