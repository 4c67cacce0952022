"""From options to a network on a device, and the weights it starts from."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fcn_ext.models import FCN, build_model, initialize_from_coarser, load_classifier
from fcn_train.data import CAFFE, IMAGENET
from fcn_train.errors import UsageError
from fcn_train.options import ModelOptions

Module = TypeVar("Module", bound=nn.Module)

NORMALISATIONS = {"imagenet": IMAGENET, "caffe": CAFFE}


def build_network(options: ModelOptions, num_classes: int) -> FCN:
    """The network with ``num_classes`` outputs, freshly initialised, on the CPU."""
    fully_connected = {"fc_channels": options.fc_channels} if options.fc_channels else {}
    try:
        return build_model(
            options.name,
            num_classes=num_classes,
            width=options.width,
            padding=options.padding,
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            **fully_connected,
        )
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None


def resolve_device(name: str, threads: int = 0) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names; sets the CPU threads."""
    if threads < 0:
        raise UsageError(f"--threads must be >= 0, got {threads}")
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"--device {name}: torch sees {count} CUDA devices; use --device cpu")
    return device


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs: device, precision, memory layout."""

    device: torch.device
    amp: str = "none"
    channels_last: bool = False

    def place(self, model: Module) -> Module:
        """``model`` itself, moved to the device and into the layout of its weights."""
        model.to(self.device)
        if self.channels_last:
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return model

    def images(self, images: Tensor) -> Tensor:
        """A batch (N, 3, H, W) float32 where the network is, in its layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True, memory_format=layout)

    def targets(self, targets: Tensor) -> Tensor:
        return targets.to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == "bf16")

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def workers(self, wanted: int) -> int:
        """Loader processes: -1 stands for none on a CPU and up to 8 on a GPU."""
        if wanted >= 0:
            return wanted
        return min(8, os.cpu_count() or 1) if self.on_gpu else 0


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


def initialise_from_classifier(model: FCN, path: Path) -> None:
    """The trunk from the file of its classifier."""
    state = read_state_dict(path)
    try:
        load_classifier(model, state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None


def initialise_from_coarser(model: FCN, coarser: FCN, path: Path) -> None:
    """Every layer that the coarser network of the run ``path`` has."""
    try:
        initialize_from_coarser(model, coarser)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None
