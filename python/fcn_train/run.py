"""The run folder: its name, what lies in it, and a network read back from it."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fcn_ext
from fcn_ext.models import FCN
from fcn_train import checkpoint
from fcn_train.config import load_config, to_dict
from fcn_train.data import IGNORE_INDEX, SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.network import build_network
from fcn_train.options import TrainOptions

RUNS = Path("runs")
CONFIG, CLASSES, ENVIRONMENT = "config.json", "classes.json", "environment.json"
CHECKPOINTS, METRICS = "checkpoints", "metrics.json"
# What may differ between a run and its continuation: it changes no weight.
TECHNICAL = {"device", "threads", "log_every", "checkpoint_every", "data.workers", "data.memory"}


@dataclass(frozen=True)
class Classes:
    """What the outputs of a network mean: names of the C classes, palette (256, 3) uint8."""

    names: tuple[str, ...]
    palette: np.ndarray

    @staticmethod
    def of(dataset: SegmentationDataset) -> Classes:
        return Classes(dataset.class_names, dataset.palette)

    def save(self, path: Path) -> None:
        colours = self.palette.tolist()
        values = {
            "ignore_index": IGNORE_INDEX,
            "ignore_colour": colours[IGNORE_INDEX],
            "classes": [{"name": n, "colour": colours[i]} for i, n in enumerate(self.names)],
        }
        checkpoint.write_text(path, json.dumps(values, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Classes:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            palette = np.zeros((256, 3), dtype=np.uint8)
            for index, entry in enumerate(values["classes"]):
                palette[index] = entry["colour"]
            palette[IGNORE_INDEX] = values["ignore_colour"]
            return Classes(tuple(str(entry["name"]) for entry in values["classes"]), palette)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); give a run folder") from None


@dataclass(frozen=True)
class TrainedRun:
    """A run read back: its options, classes and network (on the CPU, in eval mode)."""

    path: Path
    options: TrainOptions
    classes: Classes
    model: FCN


def new_run_folder(options: TrainOptions) -> Path:
    """Make ``--output``, or the next free ``runs/<kind>-<model>-<number>``."""
    if options.output is not None:
        if (options.output / CONFIG).exists():
            raise UsageError(
                f"{options.output}: holds a run already; continue it with --resume auto, "
                "or give another --output"
            )
        options.output.mkdir(parents=True, exist_ok=True)
        return options.output
    stem = f"{options.data.kind}-{options.model.name}"
    taken = [int(p.name[-3:]) for p in RUNS.glob(f"{stem}-[0-9][0-9][0-9]")]
    folder = RUNS / f"{stem}-{max(taken, default=0) + 1:03d}"
    folder.mkdir(parents=True)
    return folder


def find_run(resume: str, output: Path | None) -> Path | None:
    """The run that ``--resume`` names; ``auto`` gives None where there is nothing to continue."""
    if resume != "auto":
        path = Path(resume)
        if not (path / CONFIG).is_file():
            raise UsageError(f"{path}: is no run folder (it has no {CONFIG}); give one, or auto")
        return path
    if output is not None:
        return output if (output / CONFIG).is_file() else None
    unfinished = [
        path.parent
        for path in RUNS.glob(f"*/{CONFIG}")
        if checkpoint.checkpoints(path.parent / CHECKPOINTS)
        and not (path.parent / METRICS).exists()
    ]
    newest = max(unfinished, key=lambda p: (p / CHECKPOINTS).stat().st_mtime_ns, default=None)
    return newest


def check_continuation(run: Path, options: TrainOptions) -> None:
    """Refuse to continue ``run`` with options that would make it another run."""
    before, now = _flat(to_dict(load_config(run))), _flat(to_dict(options))
    for name in before:
        if before[name] != now[name] and name not in TECHNICAL:
            raise UsageError(
                f"{run}: was started with {name} = {before[name]!r}, not {now[name]!r}; "
                "--resume continues a run as it is, start a new one to change it"
            )


def load_run(path: Path | str, weights: str = "last") -> TrainedRun:
    """Read a run's network: ``last`` (of the newest checkpoint when unfinished) or ``best``.

    Raises:
        UsageError: ``path`` is no run folder, or its weights are missing or do not fit.
        ValueError: ``weights`` is neither of the two.
    """
    if weights not in ("last", "best"):
        raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
    path = Path(path)
    options, classes = load_config(path), Classes.load(path / CLASSES)
    model = build_network(options.model, len(classes.names))
    file = path / f"{weights}.safetensors"
    if weights == "last" and not file.exists():
        kept = checkpoint.checkpoints(path / CHECKPOINTS)
        if not kept:
            raise UsageError(f"{path}: has no checkpoint yet; train it first")
        file = kept[-1] / checkpoint.WEIGHTS
    if weights == "best" and not file.exists():
        raise UsageError(f"{path}: was not evaluated yet, no weights are the best; use the last")
    try:
        model.load_state_dict(checkpoint.load_weights(file))
    except RuntimeError as error:
        # torch lists every layer; the first tells which option differs as well as all of them.
        reasons = [line.strip() for line in str(error).splitlines()]
        reason = reasons[1] if len(reasons) > 1 else reasons[0]
        raise UsageError(f"{file}: does not fit the network of {path / CONFIG}: {reason}") from None
    return TrainedRun(path, options, classes, model.eval())


def check_classes(run: TrainedRun, dataset: SegmentationDataset) -> None:
    if run.classes.names != dataset.class_names:
        differing = [
            f"{a!r} there is {b!r} here"
            for a, b in zip(run.classes.names, dataset.class_names, strict=False)
            if a != b
        ]
        raise UsageError(
            f"{run.path}: was trained on {len(run.classes.names)} classes, {dataset.name} has "
            f"{dataset.num_classes}{'; ' + differing[0] if differing else ''}; "
            "give a run of the same classes"
        )


def environment(device: torch.device) -> dict[str, Any]:
    """Facts that a result depends on; nothing that names the machine or its folders."""
    facts = {
        "fcn_ext": getattr(fcn_ext, "__version__", "unknown"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
