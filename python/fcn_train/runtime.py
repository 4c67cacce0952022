"""Where and how a network runs: device, CPU threads, precision, memory layout."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import fcn_ext
from fcn_train import machine
from fcn_train.errors import UsageError
from fcn_train.precision import HALVES
from fcn_train.processes import ALONE, Processes, joined
from fcn_train.words import counted

Module = TypeVar("Module", bound=nn.Module)
MOST_THREADS = 1024


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs.

    Attributes:
        device: where the network and its batches are.
        amp: "bf16" and "fp16" run forward passes under ``torch.autocast``, "none" does not.
        channels_last: NHWC memory layout of images and of the convolutions' weights.
        processes: the processes that work together, including this one.
    """

    device: torch.device
    amp: str = "none"
    channels_last: bool = False
    processes: Processes = ALONE

    def place(self, model: Module) -> Module:
        """``model`` itself, moved to the device and into the memory layout."""
        model.to(self.device)
        if self.channels_last:
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return model

    def images(self, images: Tensor) -> Tensor:
        """A batch (N, 3, H, W) float32 on the network's device, in its layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True, memory_format=layout)

    def targets(self, targets: Tensor) -> Tensor:
        return targets.to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        half = HALVES.get(self.amp)
        return torch.autocast(self.device.type, half or torch.bfloat16, enabled=half is not None)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def workers(self, wanted: int, warn: Callable[[str], None] | None = None) -> int:
        """The number of loader processes: -1 stands for none on a CPU and up to 8 on a GPU.

        Args:
            wanted: as ``--data.workers`` says.
            warn: told if they are more than the CPUs.
        """
        if wanted >= 0:
            usable = usable_cpus(self.processes)
            if warn is not None and wanted > usable:
                warn(
                    f"--data.workers {wanted} is slower than {usable}, the CPUs this process may "
                    "use, unless they wait for the disk"
                )
            return wanted
        return min(8, usable_cpus(self.processes)) if self.on_gpu else 0

    def environment(self) -> dict[str, Any]:
        """Facts that a result depends on; nothing that names the machine or its folders."""
        facts = {
            "fcn_ext": getattr(fcn_ext, "__version__", "unknown"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "device": str(self.device),
        }
        if self.processes.several:
            facts["processes"] = self.processes.size
        if self.on_gpu:
            facts["gpu"] = torch.cuda.get_device_name(self.device)
            facts["cuda"] = torch.version.cuda
        return facts


def open_runtime(
    device: str,
    threads: int,
    amp: str,
    warn: Callable[[str], None],
    *,
    channels_last: bool = False,
) -> Runtime:
    """The runtime that the options name; sets the CPU threads of this process.

    Raises:
        UsageError: an option is out of range, or the device is not there.
    """
    here = joined()
    set_threads(threads, warn, usable_cpus(here))
    place = resolve_device(device)
    if here.several and place.type == "cuda":
        place = own_gpu(place, here)
    here.use(place)
    return Runtime(place, amp, channels_last, here)


def usable_cpus(here: Processes) -> int:
    """How many CPUs this process has to itself."""
    return max(1, machine.cpus() // here.local_size)


def own_gpu(place: torch.device, here: Processes) -> torch.device:
    """The GPU of this process, where each of several has one."""
    if ":" in str(place):
        raise UsageError(
            f"--device {place} is one GPU, and each of several processes takes one of its own; "
            "give --device cuda"
        )
    count = torch.cuda.device_count()
    if here.local_rank >= count:
        raise UsageError(
            f"each process takes a GPU, and torch sees {count} for "
            f"{counted(here.local_size, 'process')}; "
            "start fewer, or give --device cpu"
        )
    return torch.device("cuda", here.local_rank)


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda") or name.startswith("cpu:"):
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"--device {name}: torch sees {count} CUDA devices; use --device cpu")
    return device


def set_threads(threads: int, warn: Callable[[str], None], usable: int | None = None) -> None:
    """Set the CPU threads of torch and the operators; 0 is torch's choice, at most ``usable``."""
    if not 0 <= threads <= MOST_THREADS:
        raise UsageError(f"--threads must be in [0, {MOST_THREADS}], got {threads}")
    usable = machine.cpus() if usable is None else usable
    if threads:
        torch.set_num_threads(threads)
        if threads > usable:
            warn(f"--threads {threads} is slower than {usable}, the CPUs this process may use")
    elif torch.get_num_threads() > usable and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable)
