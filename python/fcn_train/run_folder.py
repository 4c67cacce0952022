"""The folder of a training run: its name, what lies in it, and how it is found again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fcn_train import checkpoint
from fcn_train.config import flat, load_config, to_dict
from fcn_train.errors import UsageError, WriteError
from fcn_train.files import make_folder, refused_as_write_error
from fcn_train.options import TrainOptions

RUNS = Path("runs")
CONFIG, CLASSES, METRICS = "config.json", "classes.json", "metrics.json"
RAW = "-raw"  # ends the name of weights beside whose average lies under the name without
# What may be changed to train a run further.
LENGTH = {"optim.steps", "optim.epochs", "patience"}
# What may differ between a run and its continuation: it changes no weight.
TECHNICAL = {
    *("device", "threads", "log_every", "checkpoint_every", "tensorboard"),
    *("data.workers", "data.memory", "data.cache", "data.transfer"),
}


@dataclass(frozen=True)
class RunFolder:
    """The places of a run's files below ``path``."""

    path: Path

    @property
    def config(self) -> Path:
        """Written last of what a run starts with, so what tells a run folder."""
        return self.path / CONFIG

    @property
    def classes(self) -> Path:
        return self.path / CLASSES

    @property
    def splits(self) -> Path:
        return self.path / "splits.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Written last, so what tells a finished run."""
        return self.path / METRICS

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def card(self) -> Path:
        return self.path / "model_card.md"

    def weights(self, which: str) -> Path:
        """The weights ``last`` or ``best``, or of a run with an average also ``last-raw`` or
        ``best-raw``."""
        return self.path / f"{which}.safetensors"

    def newest_checkpoint(self) -> Path | None:
        kept = checkpoint.checkpoints(self.checkpoints)
        return kept[-1] if kept else None

    @property
    def continue_with(self) -> str:
        return f"continue with: fcn train --resume {shlex.quote(str(self.path))}"


def new_run_folder(output: Path | None, stem: str) -> RunFolder:
    """Make ``output``, or the next free ``runs/<stem>-<number>``."""
    if output is not None:
        refuse_second_run(output)
        make_folder(output)
        return RunFolder(output)
    make_folder(RUNS)
    number = max((_number(path, stem) for path in RUNS.glob(f"{stem}-*")), default=0)
    while True:
        number += 1
        folder = RUNS / f"{stem}-{number:03d}"
        try:
            with refused_as_write_error(folder):
                # Of several starts at once the system lets one make it.
                folder.mkdir()
        except WriteError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue
            raise
        return RunFolder(folder)


def refuse_second_run(output: Path) -> None:
    if (output / CONFIG).exists():
        raise UsageError(
            f"{output}: holds a run already; continue it with --resume auto, "
            "or give another --output"
        )


def _number(path: Path, stem: str) -> int:
    """The number of the run folder ``<stem>-<number>``; 0 for any other name."""
    match = re.fullmatch(r"(\d{3,15})", path.name[len(stem) + 1 :], re.ASCII)
    return int(match[1]) if match else 0


def find_run(resume: str, output: Path | None) -> Path | None:
    """The run that ``--resume`` names; ``auto`` gives None where there is nothing to continue."""
    if resume != "auto":
        path = Path(resume)
        if not (path / CONFIG).is_file():
            raise UsageError(f"{path}: is no run folder (it has no {CONFIG}); give one, or auto")
        return path
    if output is not None:
        return output if (output / CONFIG).is_file() else None
    runs = [RunFolder(path.parent) for path in RUNS.glob(f"*/{CONFIG}")]
    unfinished = [run for run in runs if run.newest_checkpoint() and not run.metrics.exists()]
    newest = max(unfinished, key=lambda r: r.checkpoints.stat().st_mtime_ns, default=None)
    return newest.path if newest else None


def check_continuation(run: Path, options: TrainOptions) -> bool:
    """Refuse to continue ``run`` with options that would make it another run.

    Returns:
        Whether ``options`` say to train longer than ``run`` was to.
    """
    before, now = flat(to_dict(load_config(run))), flat(to_dict(options))
    for name in before:
        if before[name] != now[name] and name not in TECHNICAL | LENGTH:
            raise UsageError(
                f"{run}: was started with {name} = {before[name]!r}, not {now[name]!r}; "
                "--resume continues a run as it is, start a new one to change it"
            )
    # From epochs to steps and back nothing can be said without the images: taken for longer.
    if now["optim.steps"] and before["optim.steps"]:
        shorter = now["optim.steps"] < before["optim.steps"]
    else:
        shorter = now["optim.epochs"] < before["optim.epochs"]
    if shorter:
        name = "optim.steps" if now["optim.steps"] else "optim.epochs"
        raise UsageError(
            f"{run}: was started with {name} = {before[name]!r}, not {now[name]!r}; --resume can "
            "make a run longer, not shorter"
        )
    return any(before[name] != now[name] for name in LENGTH)
